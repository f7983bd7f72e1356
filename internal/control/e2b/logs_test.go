package e2b

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// logged is a control plane with one sandbox and its processes.
type logged struct {
	*fake
	processes []control.Process
	err       error
	lists     int
}

func (l *logged) CallProcess(_ context.Context, _ sandbox.ID, call control.ProcessCall) ([]control.Process, error) {
	if list, ok := call.(control.ProcessList); !ok || !list.Passive || !list.Commands {
		panic(fmt.Sprintf("the call %#v is a use of the sandbox", call))
	}
	l.lists++
	return l.processes, l.err
}

// dawn is the time of the first entry of a test.
var dawn = time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC)

// after returns a time a number of seconds after dawn.
func after(sec int) time.Time { return dawn.Add(time.Duration(sec) * time.Second) }

// logBox returns a sandbox that was created at dawn, started a second later and resumed
// after 30 seconds.
func logBox(state sandbox.State) *logged {
	f := box(state)
	started := after(1)
	f.row.CreatedAt, f.row.StartedAt, f.row.UpdatedAt = dawn, &started, after(60)
	f.row.Generation = 2
	f.row.RestoreReport = &sandbox.RestoreReport{At: after(30), Generation: 2}
	return &logged{fake: f}
}

func (l *logged) get(t *testing.T, path string, status int) (out struct {
	Logs, LogEntries []struct {
		Timestamp            time.Time
		Line, Message, Level string
		Fields               map[string]string
	}
}) {
	t.Helper()
	w := httptest.NewRecorder()
	New(Config{Sandboxes: l, Next: http.NotFoundHandler(), Log: quiet(), Enter: anyone}).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	if w.Code != status {
		t.Fatalf("GET %s: %d %s, want %d", path, w.Code, w.Body, status)
	}
	if status == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || out.Logs == nil {
			t.Fatalf("GET %s: %s: %v", path, w.Body, err)
		}
	}
	return out
}

// summary returns the entries of v2 as lines of seconds after dawn, level and message.
func (l *logged) summary(t *testing.T, query string) string {
	t.Helper()
	var lines []string
	for _, e := range l.get(t, "/v2/sandboxes/box/logs"+query, 200).Logs {
		lines = append(lines, fmt.Sprintf("%.0f %s %s", e.Timestamp.Sub(dawn).Seconds(), e.Level, e.Message))
	}
	return strings.Join(lines, "\n")
}

// TestLogs: the log of a running sandbox has its life-cycle and its processes in the order
// of time, and none of the parameters is ignored.
func TestLogs(t *testing.T) {
	l := logBox(sandbox.Running)
	l.processes = []control.Process{
		{ID: "one", Cmd: "sh", Args: []string{"-c", "exit 3"}, User: "user", StartedAt: after(40), Exit: &control.ProcessExit{At: after(41), Code: 3}},
		{Cmd: "ls", Args: []string{"-l"}, ArgsTruncated: true, User: "user", StartedAt: after(50), Exit: &control.ProcessExit{At: after(51), Code: 2}},
		{ID: "two", Cmd: "sleep", Args: []string{"9"}, User: "root", StartedAt: after(10)},
		{ID: "three", Cmd: "true", User: "user", StartedAt: after(20), Exit: &control.ProcessExit{At: after(21)}},
		{ID: "four", Cmd: "cat", User: "user", StartedAt: after(35), Exit: &control.ProcessExit{At: after(36), Code: 137, Signal: "killed", TimedOut: true}},
	}
	all := []string{
		"0 info sandbox created",
		"1 info sandbox started",
		"10 info process started: sleep 9",
		"20 info process started: true",
		"21 info process ended with exit code 0: true",
		"30 info sandbox resumed",
		"35 info process started: cat",
		"36 error process ended with signal killed (its timeout was over): cat",
		"40 info process started: sh -c exit 3",
		"41 error process ended with exit code 3: sh -c exit 3",
		"50 info process started: ls -l …",
		"51 error process ended with exit code 2: ls -l …",
	}
	at := func(sec int) string { return fmt.Sprint(after(sec).UnixMilli()) }
	for query, want := range map[string][]string{
		"":                                          all,
		"?cursor=" + at(30):                         all[5:],
		"?limit=2":                                  all[:2],
		"?direction=forward&limit=5000":             all,
		"?cursor=" + at(1) + "&limit=1":             all[1:2],
		"?level=error":                              {all[7], all[9], all[11]},
		"?search=sandbox":                           {all[0], all[1], all[5]},
		"?search=Sandbox":                           nil,
		"?direction=backward&limit=2":               {all[11], all[10]},
		"?direction=backward&cursor=" + at(1):       {all[1], all[0]},
		"?direction=backward&cursor=0":              nil,
		"?level=warn&search=cat&direction=":         {all[7]},
		"?cursor=" + fmt.Sprint(dawn.UnixMilli()+1): all[1:],
	} {
		if got := l.summary(t, query); got != strings.Join(want, "\n") {
			t.Errorf("logs%s:\n%s\nwant\n%s", query, got, strings.Join(want, "\n"))
		}
	}
	for _, query := range []string{
		"?cursor=x", "?cursor=-1", "?limit=0", "?limit=x", "?limit=", "?level=loud", "?direction=up", "?search=" + strings.Repeat("a", maxSearch+1),
	} {
		l.get(t, "/v2/sandboxes/box/logs"+query, 400)
	}
	for i, want := range []string{
		"map[command:ls -l … event:ended exit_code:2 logger:process user:user]", // a command without an id
		"map[command:ls -l … event:started logger:process user:user]",
		"map[command:sh -c exit 3 event:ended exit_code:3 logger:process process:one user:user]",
	} {
		fields := l.get(t, "/v2/sandboxes/box/logs?direction=backward&limit=3", 200).Logs[i].Fields
		if got := fmt.Sprint(fields); got != want {
			t.Errorf("fields of entry %d from the end: %s, want %s", i, got, want)
		}
	}
}

// TestLogLines: version 1 has each entry as a JSON object with the keys that the
// command-line client needs, from a start on.
func TestLogLines(t *testing.T) {
	l := logBox(sandbox.Running)
	l.processes = []control.Process{{ID: "one", Cmd: "true", User: "user", StartedAt: after(40)}}
	got := l.get(t, fmt.Sprintf("/sandboxes/box/logs?start=%d", after(30).UnixMilli()), 200)
	if len(got.Logs) != 2 || len(got.LogEntries) != 2 {
		t.Fatalf("logs %+v, want two", got)
	}
	const want = `{"command":"true","event":"started","level":"info","logger":"process","message":"process started: true","process":"one","user":"user"}`
	if e := got.Logs[1]; e.Line != want || !e.Timestamp.Equal(after(40)) || got.LogEntries[1].Message != "process started: true" {
		t.Errorf("line %s at %v, want %s at %v", e.Line, e.Timestamp, want, after(40))
	}
	if got := l.get(t, "/sandboxes/box/logs?limit=1", 200).Logs; len(got) != 1 || !got[0].Timestamp.Equal(dawn) {
		t.Errorf("with a limit of 1: %+v, want the first", got)
	}
	for _, query := range []string{"?start=x", "?start=-1", "?limit=0", "?limit=x"} {
		l.get(t, "/sandboxes/box/logs"+query, 400)
	}
}

// TestLogsOfStoppedSandboxes: a sandbox that does not run answers with its life-cycle, and
// its guest is not asked.
func TestLogsOfStoppedSandboxes(t *testing.T) {
	const begin = "0 info sandbox created\n1 info sandbox started\n30 info sandbox resumed"
	ended := after(90)
	for name, c := range map[string]struct {
		state  sandbox.State
		change func(*control.Sandbox)
		want   string
	}{
		"paused":         {sandbox.Paused, nil, begin + "\n60 info sandbox paused"},
		"without memory": {sandbox.Paused, func(row *control.Sandbox) { row.DiskOnly = true }, begin + "\n60 info sandbox paused without memory"},
		"pausing":        {sandbox.Pausing, nil, begin},
		"starting": {sandbox.Pending, func(row *control.Sandbox) {
			row.StartedAt, row.RestoreReport = nil, nil
		}, "0 info sandbox created"},
		"clone": {sandbox.Pausing, func(row *control.Sandbox) {
			row.RestoreReport.Generation = 1
		}, "0 info sandbox created\n1 info sandbox started"},
		"two clocks": {sandbox.Pausing, func(row *control.Sandbox) {
			row.CreatedAt = after(2)
		}, "2 info sandbox created\n2 info sandbox started\n30 info sandbox resumed"},
		"destroyed": {sandbox.Stopped, func(row *control.Sandbox) {
			row.EndedAt, row.StopReason = &ended, sandbox.ReasonDestroyed
		}, begin + "\n90 info sandbox ended, reason destroyed"},
		"failed": {sandbox.Error, func(row *control.Sandbox) {
			row.EndedAt, row.StopReason, row.Message = &ended, sandbox.ReasonGuestCrash, "a\x1b[2Jb"
		}, begin + "\n90 error sandbox ended, reason guest_crash: a [2Jb"},
	} {
		l := logBox(c.state)
		if c.change != nil {
			c.change(&l.row)
		}
		if got := l.summary(t, ""); got != c.want || l.lists != 0 || len(l.calls) != 0 {
			t.Errorf("%s: %d questions to the guest, calls %v, log\n%s\nwant\n%s", name, l.lists, l.calls, got, c.want)
		}
	}
}

// TestLogsOfFailingGuests: a sandbox that paused since its row was read has no processes,
// and a guest that does not answer is no empty log.
func TestLogsOfFailingGuests(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
	}{
		"paused":    {fault.New(fault.WrongState, control.ReasonPaused, "paused"), 200},
		"old agent": {fault.New(fault.Unsupported, "processes_unsupported", "old"), 200},
		"silent":    {fault.New(fault.Timeout, "guest_unresponsive", "silent"), 503},
		"broken":    {fault.New(fault.HostFailed, "guest_failed", "broken"), 503},
	} {
		t.Run(name, func(t *testing.T) {
			l := logBox(sandbox.Running)
			l.err = c.err
			if got := l.get(t, "/v2/sandboxes/box/logs", c.status).Logs; c.status == 200 && len(got) != 3 {
				t.Errorf("log %+v, want the life-cycle", got)
			}
		})
	}
}

// TestLogsOfHostileGuests: the texts of a guest are bounded and have no control
// characters, and its times move nothing but its own entries.
func TestLogsOfHostileGuests(t *testing.T) {
	bad := "\x1b]0;x\x07\n\u202e\xff"
	long := bad + strings.Repeat("é", 3000)
	l := logBox(sandbox.Running)
	for i := range maxLogs + 1 {
		l.processes = append(l.processes, control.Process{
			ID: control.ProcessID(long), Cmd: long, Args: []string{long}, ArgsTruncated: true, User: long, StartedAt: time.Unix(int64(i), 0),
		})
	}
	got := l.get(t, "/v2/sandboxes/box/logs", 200).Logs
	if len(got) != maxLogs {
		t.Fatalf("%d entries, want at most %d", len(got), maxLogs)
	}
	for _, e := range got {
		for _, text := range []string{e.Message, e.Fields["command"], e.Fields["user"], e.Fields["process"]} {
			if len(text) > maxLogCommand+32 || text == "" || strings.ContainsAny(text, "\x1b\x07\n\u202e\ufffd") {
				t.Fatalf("text %q, want a short line without control characters", text)
			}
		}
	}
	if last := l.summary(t, "?direction=backward&limit=1"); last != "30 info sandbox resumed" {
		t.Errorf("the newest entry is %q, want the resume", last)
	}
}
