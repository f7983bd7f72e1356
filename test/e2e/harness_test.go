package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/client"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/pgtest"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
)

// templates is the directory of the template snapshots of all servers in this
// package. They are the same for all, and each costs a boot.
var templates string

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv("WRENN_RUNTIME") == "" {
		// The suite expects the properties of microVMs wherever it runs.
		if err := os.Setenv("WRENN_RUNTIME", "microvm"); err != nil {
			panic(err)
		}
	}
	// Tests wait most of the time, for one interval of a server or another:
	// more of them can run at once than there are CPUs.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	os.Exit(func() int {
		var err error
		if templates, err = os.MkdirTemp("/var/tmp", "wrenn-e2e"); err == nil {
			err = os.Chmod(templates, 0o711)
		}
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(templates)
		return pgtest.Run(m)
	}())
}

// dataDir makes a data directory that uses the images and the template
// snapshots that are there.
func dataDir(t testing.TB) string {
	t.Helper()
	dir := hosttest.Dir(t)
	useImages(t, dir)
	check(t, os.Mkdir(filepath.Join(dir, "host"), 0o711))
	check(t, os.Symlink(templates, filepath.Join(dir, "host", "templates")))
	return dir
}

// useImages makes dir use the images that all tests share.
func useImages(t testing.TB, dir string) {
	t.Helper()
	check(t, os.Symlink(hosttest.ImagesDir(), filepath.Join(dir, "images")))
}

// patience bounds every wait. It is generous on purpose: VMs are emulated on
// small, busy machines, and no test here is about speed.
const patience = 3 * time.Minute

// small is the size of most sandboxes here, to leave room for many.
var small = client.CreateRequest{MemoryMB: 256, DiskMB: 512, TimeoutSec: new(int)}

// needVMs skips the test on a machine without VMs, or fails it if WRENN_REQUIRE
// demands them.
func needVMs(t testing.TB) {
	t.Helper()
	template := filepath.Join(hosttest.ImagesDir(), "templates", "minimal", "current")
	var why string
	if os.Geteuid() != 0 {
		why = "this is not root"
	} else if _, err := os.Stat(template); err != nil {
		why = err.Error()
	} else if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		why = err.Error()
	}
	switch {
	case why == "":
	case hosttest.Required("vm"):
		t.Fatalf("WRENN_REQUIRE demands real VMs, but %s", why)
	default:
		t.Skipf("no real VMs here: %s", why)
	}
}

var built struct {
	once sync.Once
	path string
	err  error
}

// binary returns the program under test.
func binary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.path = os.Getenv("WRENN_BIN"); built.path != "" {
			return
		}
		root, err := filepath.Abs("../..")
		if err != nil {
			built.err = err
			return
		}
		cmd := exec.Command("make", "build")
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = errors.Join(err, errors.New(string(out)))
		}
		built.path = filepath.Join(root, "bin", "wrenn")
	})
	if built.err != nil {
		t.Fatalf("build: %v", built.err)
	}
	return built.path
}

// wrenn runs a command of the program to its end.
func wrenn(t testing.TB, env []string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(t), args...)
	cmd.Env = append(os.Environ(), env...)
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	err = cmd.Run()
	return out.String(), diag.String(), err
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls until a condition is true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for tick := time.NewTicker(20 * time.Millisecond); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("after %v: not yet: %s", patience, what)
		}
	}
}

// failure returns the API's error in err, or fails the test.
func failure(t testing.TB, err error) *client.Error {
	t.Helper()
	var e *client.Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is not an error of the API", err)
	}
	return e
}

// wantFailure checks status and code of an error of the API.
func wantFailure(t testing.TB, err error, status int, code string) {
	t.Helper()
	if e := failure(t, err); e.Status != status || e.Code != code {
		t.Fatalf("failed with %d %s (%s), want %d %s", e.Status, e.Code, e.Message, status, code)
	}
}
