package process

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

const patience = 20 * time.Second

// newTable returns a table that the test's end empties.
func newTable(t *testing.T) *Table {
	t.Helper()
	table := NewTable(NoGroups{})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := table.Close(ctx); err != nil {
			t.Errorf("table did not close: %v", err)
		}
	})
	return table
}

// command is a Spec that runs as the test itself.
func command(dir, cmd string, args ...string) Spec {
	return Spec{
		Cmd: cmd, Args: args, Dir: dir, Env: []string{"PATH=/usr/bin:/bin"},
		Credential: Credential{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())},
	}
}

// start starts spec and ends its process group with the test.
func start(t *testing.T, table *Table, spec Spec) (*Process, *Subscription) {
	t.Helper()
	p, sub, err := table.Start(spec)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() { _ = unix.Kill(-p.PID(), unix.SIGKILL) })
	return p, sub
}

// pieces returns the pieces that sub receives until the command's end.
func pieces(t *testing.T, sub *Subscription) iter.Seq[Output] {
	t.Helper()
	deadline := time.After(patience)
	return func(yield func(Output) bool) {
		buf := make([]byte, 32<<10)
		for {
			piece, more, ended := sub.Next(buf)
			switch {
			case ended:
				return
			case more:
				if !yield(piece) {
					return
				}
				continue
			}
			select {
			case <-sub.Ready():
			case <-deadline:
				t.Error("the command did not end")
				return
			}
		}
	}
}

// collect reads a subscription to its end.
func collect(t *testing.T, sub *Subscription) map[Kind]string {
	t.Helper()
	out := map[Kind]*bytes.Buffer{Stdout: {}, Stderr: {}, Terminal: {}, Dropped: {}}
	for piece := range pieces(t, sub) {
		out[piece.Kind].Write(piece.Data)
	}
	return map[Kind]string{Stdout: out[Stdout].String(), Stderr: out[Stderr].String(), Terminal: out[Terminal].String()}
}

func TestCommandEnds(t *testing.T) {
	tests := []struct {
		name           string
		cmd            string
		args           []string
		stdout, stderr string
		exit           Exit
	}{
		{"arguments are verbatim", "printf", []string{"%s|", "a b", "$HOME", "*", ""}, "a b|$HOME|*||", "", Exit{Status: "exit status 0"}},
		{"exit code", "sh", []string{"-c", "exit 7"}, "", "", Exit{Code: 7, Status: "exit status 7"}},
		{"stderr apart", "sh", []string{"-c", "echo out; echo err >&2"}, "out\n", "err\n", Exit{Status: "exit status 0"}},
		{"signal", "sh", []string{"-c", "kill -TERM $$"}, "", "", Exit{Code: -1, Signal: syscall.SIGTERM, Status: "signal: terminated"}},
		{"no stdin is end of file", "cat", nil, "", "", Exit{Status: "exit status 0"}},
		{"session of its own", "sh", []string{"-c", `test "$(ps -o pgid= -o sid= -p $$ | tr -s ' ' | sed 's/^ //')" = "$$ $$"`}, "", "", Exit{Status: "exit status 0"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, sub := start(t, newTable(t), command(t.TempDir(), tt.cmd, tt.args...))
			out := collect(t, sub)
			<-p.Ended()
			if out[Stdout] != tt.stdout || out[Stderr] != tt.stderr || p.Exit() != tt.exit {
				t.Errorf("got %q, %q, %+v; want %q, %q, %+v", out[Stdout], out[Stderr], p.Exit(), tt.stdout, tt.stderr, tt.exit)
			}
		})
	}
}

func TestStartRefuses(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		spec   Spec
		reason string
	}{
		{"unknown name", command(dir, "no-such-command"), "command_not_found"},
		{"unknown path", command(dir, "/no/such/command"), "command_not_found"},
		{"not executable", command(dir, "./plain"), "command_not_executable"},
		{"a directory", command(dir, dir), "command_not_executable"},
		{"no command", command(dir, ""), "missing_cmd"},
		{"missing directory", command(dir+"/none", "true"), "invalid_cwd"},
		{"directory is a file", command(plain, "true"), "invalid_cwd"},
		{"NUL", command(dir, "echo", "a\x00b"), "invalid_command"},
		{"too large", command(dir, "echo", strings.Repeat("x", MaxSpecBytes)), "command_too_large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := newTable(t).Start(tt.spec)
			if fault.ReasonOf(err) != tt.reason {
				t.Errorf("got %v, want reason %s", err, tt.reason)
			}
		})
	}
}

// TestStartWithoutACgroup: the lack of a cgroup, whose parent root can hide, is not
// taken for that of the command.
func TestStartWithoutACgroup(t *testing.T) {
	table := NewTable(NewCgroups(filepath.Join(t.TempDir(), "none", "user"), "a-"))
	if _, _, err := table.Start(command(t.TempDir(), "true")); fault.ReasonOf(err) != "guest_exhausted" {
		t.Errorf("got %v, want reason guest_exhausted", err)
	}
}

func TestStdin(t *testing.T) {
	spec := command(t.TempDir(), "cat")
	spec.Stdin = true
	p, sub := start(t, newTable(t), spec)
	for _, s := range []string{"one ", "two"} {
		if err := p.WriteStdin(t.Context(), []byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.CloseStdin(); err != nil {
		t.Fatal(err)
	}
	if out := collect(t, sub); out[Stdout] != "one two" {
		t.Errorf("got %q", out[Stdout])
	}
	if err := p.WriteStdin(t.Context(), []byte("late")); !fault.Is(err, fault.NotFound) {
		t.Errorf("writing to an ended command: %v", err)
	}
}

func TestStdinOfAProcessThatDoesNotRead(t *testing.T) {
	spec := command(t.TempDir(), "sleep", "1000")
	spec.Stdin = true
	p, _ := start(t, newTable(t), spec)
	ctx, cancel := context.WithCancel(t.Context())
	written := make(chan error, 1)
	go func() { written <- p.WriteStdin(ctx, make([]byte, 1<<20)) }()
	cancel()
	if err := <-written; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's end", err)
	}
}

func TestSlowReaderLosesNothing(t *testing.T) {
	const size = 8 << 20
	p, sub := start(t, newTable(t), command(t.TempDir(), "head", "-c", "8388608", "/dev/zero"))
	got := 0
	for piece := range pieces(t, sub) {
		got += len(piece.Data)
		select {
		case <-p.Ended():
			// The data in pipes and queues at the end may be most of a
			// megabyte; the first half never fits there.
			if got < size/2 {
				t.Fatalf("the command ended when only %d bytes of its output were taken", got)
			}
		default:
		}
	}
	if got != size {
		t.Errorf("got %d bytes, want %d", got, size)
	}
}

func TestOutputWithoutReaderIsDiscarded(t *testing.T) {
	p, sub := start(t, newTable(t), command(t.TempDir(), "head", "-c", "8388608", "/dev/zero"))
	sub.Detach()
	select {
	case <-p.Ended():
	case <-time.After(patience):
		t.Fatal("the command waits for a reader that is gone")
	}
}

func TestGrandchildHoldsThePipe(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"go", "done"} {
		if err := unix.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The child outlives the command, then writes to the pipe it inherited:
	// it must get that far without SIGPIPE.
	p, sub := start(t, newTable(t), command(dir, "sh", "-c", "(read x <go; echo late && echo alive >done) & echo early"))
	if out := collect(t, sub); out[Stdout] != "early\n" {
		t.Errorf("got %q", out[Stdout])
	}
	<-p.Ended()
	if err := os.WriteFile(filepath.Join(dir, "go"), []byte("x\n"), 0); err != nil {
		t.Fatal(err)
	}
	alive, err := os.ReadFile(filepath.Join(dir, "done"))
	if err != nil || string(alive) != "alive\n" {
		t.Errorf("the child ended early: %q, %v", alive, err)
	}
}

func TestTimeoutKillsTheGroup(t *testing.T) {
	spec := command(t.TempDir(), "sh", "-c", "echo begun; sleep 1000 & sleep 1000")
	spec.Timeout = 50 * time.Millisecond
	p, sub := start(t, newTable(t), spec)
	out := collect(t, sub)
	if exit := p.Exit(); !exit.TimedOut || exit.Signal != syscall.SIGKILL {
		t.Errorf("got %+v", exit)
	}
	if out[Stdout] != "begun\n" && out[Stdout] != "" {
		t.Errorf("got %q", out[Stdout])
	}
}

func TestSignal(t *testing.T) {
	table := newTable(t)
	p, sub := start(t, table, command(t.TempDir(), "sleep", "1000"))
	if got, err := table.ByPID(p.PID()); err != nil || got != p {
		t.Fatalf("ByPID: %v, %v", got, err)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	collect(t, sub)
	<-p.Ended()
	if err := p.Signal(syscall.SIGKILL); !fault.Is(err, fault.NotFound) {
		t.Errorf("signal to an ended command: %v", err)
	}
	late, err := p.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	for range pieces(t, late) {
		t.Error("a late reader got output")
	}
	if len(table.List()) != 0 {
		t.Error("an ended command is listed")
	}
}

func TestTerminal(t *testing.T) {
	spec := command(t.TempDir(), "sh", "-c", "stty size; read line; echo got $line; stty size")
	spec.Terminal = &Size{Cols: 100, Rows: 30}
	p, sub := start(t, newTable(t), spec)
	if err := p.Resize(Size{Cols: 101, Rows: 31}); err != nil {
		t.Fatal(err)
	}
	if err := p.WriteTerminal(t.Context(), []byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	out := collect(t, sub)[Terminal]
	if !strings.Contains(out, "got hello") || !strings.Contains(out, "31 101") {
		t.Errorf("got %q", out)
	}
	if err := p.WriteStdin(t.Context(), nil); fault.ReasonOf(err) != "no_stdin" {
		t.Errorf("stdin of a terminal: %v", err)
	}
}

// ended is a process without a kernel process, for tests of the table alone.
func ended(key uint64, pid int) *Process {
	p := &Process{key: key, pid: pid, journal: newJournal(&room{total: maxJournalRoom}, briefJournal), ended: make(chan struct{}), reaped: true}
	p.journal.close()
	close(p.ended)
	return p
}

func TestEndedProcessesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable(NoGroups{})
		for key := range uint64(MaxFinished + 1) {
			table.retire(ended(key, int(key)))
		}
		if _, err := table.ByPID(0); !fault.Is(err, fault.NotFound) {
			t.Errorf("the oldest of too many is kept: %v", err)
		}
		time.Sleep(Retention - time.Second)
		if _, err := table.ByPID(1); err != nil {
			t.Errorf("forgotten too early: %v", err)
		}
		time.Sleep(2 * time.Second)
		if _, err := table.ByPID(1); !fault.Is(err, fault.NotFound) {
			t.Errorf("kept too long: %v", err)
		}
	})
}

func TestReusedPID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable(NoGroups{})
		old := ended(1, 42)
		table.retire(old)
		running := ended(2, 42)
		running.reaped = false
		table.running[2] = running
		if p, _ := table.ByPID(42); p != running {
			t.Error("the PID found the process that has ended")
		}
		if err := old.Signal(syscall.SIGKILL); !fault.Is(err, fault.NotFound) {
			t.Errorf("the old process was signalled: %v", err)
		}
		time.Sleep(2 * Retention)
	})
}

func TestRecordOutlivesItsCommand(t *testing.T) {
	table := newTable(t)
	spec := command(t.TempDir(), "sh", "-c", "echo out; echo err >&2; exit 3")
	spec.ID = "first"
	p, sub := start(t, table, spec)
	sub.Detach()
	<-p.Ended()
	found, err := table.ByID("first")
	if err != nil || found != p {
		t.Fatalf("got %v, %v; want the process", found, err)
	}
	late, err := found.SubscribeFrom(0, true)
	if err != nil {
		t.Fatal(err)
	}
	if out := collect(t, late); out[Stdout] != "out\n" || out[Stderr] != "err\n" || p.Exit().Code != 3 {
		t.Errorf("got %v and %+v after the end", out, p.Exit())
	}
	if _, _, err := table.Start(spec); fault.ReasonOf(err) != "process_exists" {
		t.Errorf("a second process of the same id: %v, want process_exists", err)
	}
	if list := table.Records(); len(list) != 1 || list[0] != p {
		t.Errorf("got %v, want the one process", list)
	}
}

func TestRecordsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable(NoGroups{})
		for key := range uint64(MaxRecords + 1) {
			p := ended(key, int(key))
			p.spec.ID = "p" + strconv.Itoa(int(key))
			table.ids[p.spec.ID] = p
			table.retire(p)
		}
		if _, err := table.ByID("p0"); fault.ReasonOf(err) != "process_not_found" {
			t.Errorf("the oldest of too many: %v, want process_not_found", err)
		}
		time.Sleep(RecordRetention - time.Second)
		if _, err := table.ByID("p1"); err != nil {
			t.Errorf("forgotten too early: %v", err)
		}
		time.Sleep(2 * time.Second)
		if _, err := table.ByID("p1"); fault.ReasonOf(err) != "process_not_found" {
			t.Errorf("kept too long: %v, want process_not_found", err)
		}
	})
}

func TestSignalAllReachesOtherProcessGroups(t *testing.T) {
	dir := t.TempDir()
	p, sub := start(t, newTable(t), command(dir, "sh", "-c", "trap 'echo got; exit 0' TERM; echo begun; sleep 1000 & wait"))
	for piece := range pieces(t, sub) {
		if strings.Contains(string(piece.Data), "begun") {
			if err := p.SignalAll(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
	}
	if <-p.Ended(); p.Exit().Code != 0 {
		t.Errorf("got %+v, want the trap's exit", p.Exit())
	}
}

func TestEndedCommandsMakeWayForNewOnes(t *testing.T) {
	table := NewTable(NoGroups{})
	for key := range uint64(MaxTableBytes / MaxSpecBytes) {
		p := ended(key, int(key))
		p.spec.ID = "p" + strconv.Itoa(int(key))
		p.spec.Args = []string{strings.Repeat("a", MaxSpecBytes-16)}
		table.ids[p.spec.ID], table.bytes = p, table.bytes+p.spec.bytes()
		table.retire(p)
	}
	t.Cleanup(func() {
		for _, timer := range table.forget {
			timer.Stop()
		}
	})
	spec := Spec{Cmd: "true"}
	if _, err := table.reserve(&spec); err != nil {
		t.Fatalf("start beside large commands that have ended: %v, want the oldest of them forgotten", err)
	}
	if _, err := table.ByID("p0"); fault.ReasonOf(err) != "process_not_found" {
		t.Errorf("the oldest command: %v, want process_not_found", err)
	}
	if _, err := table.ByID("p1"); err != nil {
		t.Errorf("the second oldest command: %v, want it kept", err)
	}
}
