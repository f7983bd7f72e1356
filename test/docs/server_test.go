package docs

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
)

// patience bounds every wait. VMs are emulated on small, busy machines, and no
// test here is about speed.
const patience = 3 * time.Minute

// installation is a data directory with the server that uses it. Commands of a
// page start and stop the server as they would with systemctl.
type installation struct {
	bin, dir, addr, network string
	// control is the URL that the pages' "systemctl" asks.
	control string

	mu    sync.Mutex // protects the following
	cmd   *exec.Cmd  // nil while the server is stopped
	ended chan struct{}
	log   bytes.Buffer
}

// needVMs skips the test on a machine without VMs, or fails it where
// WRENN_REQUIRE demands them.
func needVMs(t testing.TB) {
	t.Helper()
	var why string
	if os.Geteuid() != 0 {
		why = "this is not root"
	} else if _, err := os.Stat(filepath.Join(hosttest.ImagesDir(), "templates", "minimal", "current")); err != nil {
		why = err.Error()
	} else if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		why = err.Error()
	}
	if why == "" {
		return
	}
	if hosttest.Required("vm") {
		t.Fatalf("WRENN_REQUIRE demands real VMs, but %s", why)
	}
	t.Skipf("no real VMs here: %s", why)
}

var build = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("WRENN_BIN"); bin != "" {
		return bin, nil
	}
	cmd := exec.Command("make", "build")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return filepath.Abs(filepath.Join(root, "bin", "wrenn"))
})

// binary returns the program under test.
func binary(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// install makes an installation and starts its server.
func install(t *testing.T) *installation {
	t.Helper()
	needVMs(t)
	in := &installation{bin: binary(t), dir: hosttest.Dir(t), addr: freeAddress(t)}
	in.network = hosttest.Range(t)
	if err := os.Symlink(hosttest.ImagesDir(), filepath.Join(in.dir, "images")); err != nil {
		t.Fatal(err)
	}
	control := httptest.NewServer(http.HandlerFunc(in.serve))
	t.Cleanup(control.Close)
	in.control = control.URL
	t.Cleanup(func() { in.remove(t) })
	if err := in.start(); err != nil {
		t.Fatal(err)
	}
	return in
}

// freeAddress returns a loopback address that nothing listens on. The server
// keeps it over restarts, so the kernel cannot choose it then.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// serve answers POST /start and POST /stop.
func (in *installation) serve(w http.ResponseWriter, r *http.Request) {
	var err error
	switch r.URL.Path {
	case "/start":
		err = in.start()
	case "/stop":
		err = in.stop()
	default:
		err = fmt.Errorf("the tests cannot do %s", r.URL.Path)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// start starts the server and returns when it is ready.
func (in *installation) start() error {
	if err := in.stop(); err != nil {
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.log.Reset()
	// No warm clones: making them takes CPU from the commands of the pages.
	cmd := exec.Command(in.bin, "up", "--data-dir", in.dir, "--listen", in.addr, "--network", in.network, "--pool", "0")
	cmd.Stderr = &in.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		// Pdeathsig fires when the starting thread ends, so this goroutine keeps it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // await and the test's end show the server's log
			close(ended)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	in.cmd, in.ended = cmd, ended
	return in.await()
}

// await returns when the server is ready. The caller holds mu.
func (in *installation) await() error {
	timeout := time.After(patience)
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		if resp, err := http.Get("http://" + in.addr + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-in.ended:
			return fmt.Errorf("the server ended instead of serving:\n%s", in.log.String())
		case <-timeout:
			return fmt.Errorf("the server is not ready after %v", patience)
		}
	}
}

// stop ends the server and returns when it is gone. Sandboxes keep running.
func (in *installation) stop() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.cmd == nil {
		return nil
	}
	_ = in.cmd.Process.Signal(syscall.SIGTERM) // it fails if the server has ended
	select {
	case <-in.ended:
	case <-time.After(patience):
		return fmt.Errorf("the server did not end within %v", patience)
	}
	in.cmd = nil
	return nil
}

// remove stops the server and removes the installation. It is no error if a
// page has removed it.
func (in *installation) remove(t *testing.T) {
	if t.Failed() {
		defer func() { t.Logf("the server's log:\n%s", in.log.String()) }()
	}
	if err := in.stop(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, in.bin, "uninstall", "--yes", "--data-dir", in.dir).CombinedOutput()
	if err != nil {
		t.Errorf("uninstall: %v\n%s", err, out)
	}
}

// local replaces the places that the pages name by those of the installation.
func (in *installation) local(command string) string {
	return strings.NewReplacer("127.0.0.1:8080", in.addr, "/var/lib/wrenn", in.dir).Replace(command)
}

// public replaces the places of the installation by those that the pages name.
func (in *installation) public(output string) string {
	return strings.NewReplacer(in.addr, "127.0.0.1:8080", in.dir, "/var/lib/wrenn").Replace(output)
}
