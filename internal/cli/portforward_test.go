package cli_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/cli"
)

// forwarded runs port-forward for port of sandbox1 and returns its local address, and
// a function that interrupts it and returns its exit code and stderr.
func forwarded(t *testing.T, url, port string) (address string, stop func() (int, string)) {
	t.Helper()
	out, printed := io.Pipe()
	errs, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer t.Cleanup(func() { _ = errs.Close() })
	app := cli.New(cli.IO{In: strings.NewReader(""), Out: printed, Err: errs, LookupEnv: func(name string) (string, bool) {
		return map[string]string{"WRENN_URL": url, "WRENN_DATA_DIR": "/nonexistent"}[name], true
	}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() { ended <- app.Run(ctx, []string{"port-forward", "sandbox1", port + ":0"}) }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address, remote, _ := strings.Cut(strings.TrimSpace(line), " -> ")
	if remote != port {
		t.Errorf("it printed %q, want the address and port %s", line, port)
	}
	return address, func() (int, string) {
		cancel()
		code := <-ended
		text, _ := os.ReadFile(errs.Name())
		return code, string(text)
	}
}

func dialLocal(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	return conn.(*net.TCPConn)
}

func TestPortForward(t *testing.T) {
	f, url := newFake(t)
	f.add("sandbox1")
	address, stop := forwarded(t, url, "7")
	for range 2 {
		conn := dialLocal(t, address)
		_, err := io.WriteString(conn, "hello")
		if err == nil {
			err = conn.CloseWrite()
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); string(got) != "hello" || err != nil {
			t.Errorf("%q came back, %v; want it and a clean end", got, err)
		}
	}
	open := dialLocal(t, address)
	if _, err := io.WriteString(open, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(open, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if code, text := stop(); code != 130 || text != "" {
		t.Errorf("interrupted: exit code %d and %q, want 130 and nothing", code, text)
	}
	if _, err := open.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("after the interrupt an open connection read %v, want an abort", err)
	}
}

// TestPortForwardRefused: where nothing listens in the sandbox, the connection is
// reset, and the command continues and says why.
func TestPortForwardRefused(t *testing.T) {
	f, url := newFake(t)
	f.add("sandbox1")
	address, stop := forwarded(t, url, "9")
	// The reset may come before the connecting here has returned.
	conn, err := net.Dial("tcp", address)
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection met %v, want a reset", err)
	}
	if code, text := stop(); code != 130 || !strings.Contains(text, "port 9: nothing listens on port 9") || !strings.Contains(text, "port_refused") {
		t.Errorf("exit code %d and %q, want 130 and the reason", code, text)
	}
}
