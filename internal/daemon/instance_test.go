package daemon_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/daemon"
)

// lockFile makes the test binary hold the lock it names until its end.
const lockFile = "WRENN_TEST_DAEMON_LOCK"

func TestMain(m *testing.M) {
	if path := os.Getenv(lockFile); path != "" {
		_, err := daemon.Lock(path)
		fmt.Println("locked", err)
		select {}
	}
	os.Exit(m.Run())
}

func TestLockIsExclusiveAndEndsWithItsHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if p, err := daemon.Holder(path); p != nil || err != nil {
		t.Fatalf("Holder of a missing file: %v, %v", p, err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), lockFile+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "locked <nil>\n" {
		t.Fatalf("the holder says %q", line)
	}
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
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), lockFile+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = bufio.NewReader(out).ReadString('\n')
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
