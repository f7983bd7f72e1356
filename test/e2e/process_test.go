package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a server of the product in a process of its own.
//
// Invariants: ended is closed when the process has been reaped and all of its
// log is in lines; news is replaced and closed whenever a line is added.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}

	mu    sync.Mutex // protects the following
	lines []string
	news  chan struct{}
}

// start runs the program as a server. The caller stops it.
func start(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	p := &process{ended: make(chan struct{}), news: make(chan struct{})}
	p.cmd = exec.Command(binary(t), append(args, "--log-format", "json")...)
	// Without warm clones, unless args ask for them: refilling takes CPU from
	// all that run at once here.
	p.cmd.Env = append(append(os.Environ(), "WRENN_POOL=0"), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	// The pipe is not that of package exec, because Wait would close it before
	// all lines are read.
	r, w, err := os.Pipe()
	check(t, err)
	p.cmd.Stderr = w
	started := make(chan error, 1)
	go func() {
		// Pdeathsig fires when the starting thread ends, so this goroutine keeps it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		w.Close()
		started <- err
		if err == nil {
			p.own(r)
		}
	}()
	check(t, <-started)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of %s ends with\n%s", args[0], p.tail(60))
		}
	})
	return p
}

// own reads the log, then reaps the process.
func (p *process) own(log io.ReadCloser) {
	defer close(p.ended)
	defer log.Close()
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.mu.Lock()
		p.lines = append(p.lines, lines.Text())
		close(p.news)
		p.news = make(chan struct{})
		p.mu.Unlock()
	}
	_ = p.cmd.Wait() // its exit code is looked at by those who care
}

// await returns the attributes of the first line of the log that says message.
func (p *process) await(t testing.TB, message string) map[string]any {
	t.Helper()
	timeout := time.After(patience)
	for seen := 0; ; {
		p.mu.Lock()
		lines, news := p.lines[seen:], p.news
		p.mu.Unlock()
		for _, line := range lines {
			var attrs map[string]any
			if json.Unmarshal([]byte(line), &attrs) == nil && attrs["msg"] == message {
				return attrs
			}
		}
		seen += len(lines)
		select {
		case <-news:
		case <-p.ended:
			t.Fatalf("the process ended before it said %q:\n%s", message, p.tail(60))
		case <-timeout:
			t.Fatalf("the process did not say %q:\n%s", message, p.tail(60))
		}
	}
}

// tail returns the end of the log.
func (p *process) tail(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines[max(0, len(p.lines)-n):], "\n")
}

// stop sends the process a signal and returns when it is gone. A process that
// has ended, or was never started, is left alone.
func (p *process) stop(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(sig) // it fails for one that has ended
	p.wait(t)
}

// wait returns when the process has ended.
func (p *process) wait(t testing.TB) {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.ended
		t.Errorf("process %d had to be killed:\n%s", p.cmd.Process.Pid, p.tail(60))
	}
}
