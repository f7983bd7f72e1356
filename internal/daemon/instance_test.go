package daemon_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/daemon"
)

// lockFile makes the test binary hold the lock it names until its input ends.
const lockFile = "WRENN_TEST_DAEMON_LOCK"

func TestMain(m *testing.M) {
	if path := os.Getenv(lockFile); path != "" {
		_, err := daemon.Lock(path)
		fmt.Println("locked", err)
		// Not "select {}": the runtime ends a process whose goroutines are all
		// blocked.
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// holdLock starts a process that holds the lock at path, and returns when it
// does. The process ends with the test.
func holdLock(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), lockFile+"="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "locked <nil>\n" {
		t.Fatalf("the holder says %q, want that it is locked", line)
	}
	return cmd
}

func TestLockIsExclusiveAndEndsWithItsHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if p, err := daemon.Holder(path); p != nil || err != nil {
		t.Fatalf("Holder of a missing file: %v, %v", p, err)
	}
	cmd := holdLock(t, path)
	if _, err := daemon.Lock(path); !errors.Is(err, daemon.ErrRunning) {
		t.Errorf("a second Lock: %v, want ErrRunning", err)
	}
	p, err := daemon.Holder(path)
	if err != nil || p.PID != cmd.Process.Pid {
		t.Fatalf("Holder: %v, %v; want process %d", p, err, cmd.Process.Pid)
	}
	defer p.Close()
	soon, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := p.Wait(soon); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait for a living process: %v", err)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Errorf("Wait after one that was cut short: got %v, want the process's end", err)
	}
	_ = cmd.Wait()

	release, err := daemon.Lock(path)
	if err != nil {
		t.Fatalf("Lock after the holder's end: %v", err)
	}
	release()
	if p, err := daemon.Holder(path); p != nil || err != nil {
		t.Errorf("Holder of a lock that was released: %v, %v", p, err)
	}
}

func TestWaitReturnsWhenTheProcessEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	cmd := holdLock(t, path)
	p, err := daemon.Holder(path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	waited := make(chan error, 1)
	go func() { waited <- p.Wait(t.Context()) }()
	_ = cmd.Process.Kill()
	if err := <-waited; err != nil {
		t.Errorf("Wait: %v", err)
	}
	_ = cmd.Wait()
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("Signal to a process that has ended: %v", err)
	}
}

// TestHolderDoesNotTrustTheNumber has this process hold the lock and the file
// name another one.
func TestHolderDoesNotTrustTheNumber(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	release, err := daemon.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := os.WriteFile(path, fmt.Appendln(nil, os.Getppid()), 0o644); err != nil {
		t.Fatal(err)
	}
	if p, err := daemon.Holder(path); err == nil {
		t.Errorf("Holder believed that process %d holds the lock", p.PID)
	}
}

// TestAskingDoesNotRefuseAStart has several goroutines call Holder while the
// lock is taken and released. A call of Holder must never make a start fail,
// and must never report a start in progress as an error.
func TestAskingDoesNotRefuseAStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	ctx, stop := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	defer asking.Wait()
	defer stop()
	for range 3 {
		asking.Go(func() {
			for ctx.Err() == nil {
				p, err := daemon.Holder(path)
				if err != nil {
					t.Errorf("Holder while the lock is taken and released: got %v, want a process or none", err)
					return
				}
				if p != nil {
					p.Close()
				}
			}
		})
	}
	for i := range 300 {
		release, err := daemon.Lock(path)
		if err != nil {
			t.Fatalf("Lock %d while others ask for its holder: got %v, want the lock", i, err)
		}
		release()
	}
}

// TestLockIsItsOwnersAlone: any user who can open the file can hold the lock, and
// keep every start out.
func TestLockIsItsOwnersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(path, nil, 0o644); err != nil { // as earlier versions made it
		t.Fatal(err)
	}
	release, err := daemon.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v: others can hold the lock", st.Mode(), err)
	}
}
