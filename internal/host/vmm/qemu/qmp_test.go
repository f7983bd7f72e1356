package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// script is a QMP server that greets and then answers each command with the text
// that reply returns; an empty one hangs up.
func script(t *testing.T, reply func(command string, id uint64) string) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _ = theirs.Close() })
	go func() {
		defer theirs.Close()
		fmt.Fprintln(theirs, `{"QMP": {"version": {}, "capabilities": []}}`)
		lines := bufio.NewScanner(theirs)
		for lines.Scan() {
			var cmd struct {
				Execute string `json:"execute"`
				ID      uint64 `json:"id"`
			}
			if json.Unmarshal(lines.Bytes(), &cmd) != nil {
				return
			}
			answer := fmt.Sprintf(`{"return": {}, "id": %d}`, cmd.ID)
			if cmd.Execute != "qmp_capabilities" {
				answer = reply(cmd.Execute, cmd.ID)
			}
			if answer == "" {
				return
			}
			fmt.Fprintln(theirs, answer)
		}
	}()
	return ours
}

func TestMonitorMatchesRepliesAndEvents(t *testing.T) {
	var events []string
	conn := script(t, func(command string, id uint64) string {
		return fmt.Sprintf("%s\n%s\n%s",
			`{"event": "STOP", "timestamp": {}}`,
			`{"return": {"status": "wrong"}, "id": 999}`,
			fmt.Sprintf(`{"return": {"status": %q}, "id": %d}`, command, id))
	})
	m, err := newMonitor(t.Context(), conn, func(e event) { events = append(events, e.Name) })
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"query-status", "query-other"} {
		var out struct{ Status string }
		if err := m.call(t.Context(), command, nil, &out); err != nil || out.Status != command {
			t.Fatalf("%s: got %q, %v", command, out.Status, err)
		}
	}
	m.close()
	if got := strings.Join(events, " "); got != "STOP STOP" {
		t.Fatalf("events %q", got)
	}
}

func TestMonitorErrors(t *testing.T) {
	conn := script(t, func(command string, id uint64) string {
		if command == "die" {
			return ""
		}
		return fmt.Sprintf(`{"error": {"class": "GenericError", "desc": "no"}, "id": %d}`, id)
	})
	m, err := newMonitor(t.Context(), conn, func(event) {})
	if err != nil {
		t.Fatal(err)
	}
	var qe *qmpError
	if err := m.call(t.Context(), "fail", nil, nil); !errors.As(err, &qe) || qe.Desc != "no" {
		t.Fatalf("got %v, want QEMU's error", err)
	}
	if err := m.call(t.Context(), "die", nil, nil); !errors.Is(err, errQMPClosed) {
		t.Fatalf("a call cut off by the end of the connection: %v", err)
	}
	if err := m.call(t.Context(), "late", nil, nil); err == nil {
		t.Fatal("a call after the end succeeded")
	}
}

func TestMonitorGivesUp(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := newMonitor(ctx, ours, func(event) {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a VMM that does not greet: %v", err)
	}
}

// TestMonitorOfVMMThatStopsReading: once the socket takes no more, a command
// ends with its deadline, as one without an answer does, and so does the next.
func TestMonitorOfVMMThatStopsReading(t *testing.T) {
	release := make(chan struct{})
	conn := script(t, func(string, uint64) string { <-release; return "" })
	defer close(release)
	m, err := newMonitor(t.Context(), conn, func(event) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"answered-never", "read-never", "read-never"} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err := m.call(ctx, command, nil, nil)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%s: got %v, want the deadline", command, err)
		}
	}
	if n := len(m.pending); n != 0 {
		t.Fatalf("%d calls that have ended still wait for an answer", n)
	}
	if m.ended() {
		t.Fatal("the connection has ended although no command was written in part")
	}
}

// TestResumeTriesTheFailedWriteAgain: a hint at a full disk from before a resume
// does not count after it, unless the resume failed.
func TestResumeTriesTheFailedWriteAgain(t *testing.T) {
	for answer, want := range map[string]int{
		`{"return": {}, "id": %d}`:                                     0,
		`{"error": {"class": "GenericError", "desc": "no"}, "id": %d}`: 1,
	} {
		v := &vm{stalled: make(chan struct{}, 1)}
		m, err := newMonitor(t.Context(), script(t, func(_ string, id uint64) string { return fmt.Sprintf(answer, id) }), v.onEvent)
		if err != nil {
			t.Fatal(err)
		}
		v.link.mon = m
		v.onEvent(event{Name: "BLOCK_IO_ERROR", Data: json.RawMessage(`{"action": "stop"}`)})
		if len(v.stalled) != 1 {
			t.Fatal("a write without space was not told of")
		}
		if err := v.Resume(t.Context()); (err != nil) != (want == 1) {
			t.Fatalf("resume answered with %s: %v", answer, err)
		}
		if got := len(v.stalled); got != want {
			t.Errorf("after a resume answered with %s the disk is told full %d times, want %d", answer, got, want)
		}
		v.link.close()
	}
}

// TestOutOfSpace tells the state after a failed write from every other one.
func TestOutOfSpace(t *testing.T) {
	for state, want := range map[string]bool{"io-error": true, "running": false, "paused": false, "internal-error": false} {
		v := &vm{}
		m, err := newMonitor(t.Context(), script(t, func(_ string, id uint64) string {
			return fmt.Sprintf(`{"return": {"status": %q}, "id": %d}`, state, id)
		}), v.onEvent)
		if err != nil {
			t.Fatal(err)
		}
		v.link.mon = m
		if got, err := v.OutOfSpace(t.Context()); err != nil || got != want {
			t.Errorf("in state %s: out of space is %v, %v; want %v", state, got, err, want)
		}
		v.link.close()
	}
}

// TestNewConnectionHintsAtAStop: a stop may have been missed before it, unless the
// process is as new as the connection.
func TestNewConnectionHintsAtAStop(t *testing.T) {
	path := filepath.Join(t.TempDir(), "qmp")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(conn, `{"QMP": {}}`)
			// An answer before the command would be dropped.
			if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
				return
			}
			fmt.Fprintln(conn, `{"return": {}, "id": 1}`)
		}
	}()
	v := &vm{stalled: make(chan struct{}, 1)}
	v.link = link{path: path, onEvent: v.onEvent, onReconnect: v.tellStalled, fresh: true}
	defer v.link.close()
	for i, want := range []int{0, 1} {
		m, err := v.link.monitor(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := len(v.stalled); got != want {
			t.Errorf("after connection %d there are %d hints at a stop, want %d", i+1, got, want)
		}
		m.close()
	}
}

// TestErrorTextIsBounded: the VMM may have been taken over by its guest.
func TestErrorTextIsBounded(t *testing.T) {
	err := &qmpError{Class: "Generic\x1b[2J", Desc: strings.Repeat("x", maxQMPMessage)}
	if text := err.Error(); len(text) > 2*maxErrorText || strings.Contains(text, "\x1b") {
		t.Errorf("an error text of %d bytes with control characters %v", len(text), strings.Contains(text, "\x1b"))
	}
}

func FuzzMonitor(f *testing.F) {
	f.Add([]byte(`{"event": "SHUTDOWN", "data": {"reason": "guest-reset"}}`))
	f.Add([]byte(`{"return": 1, "id": 1}` + "\n" + `{"error": null, "id": 2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			go func() {
				buf := make([]byte, 4096)
				for {
					if _, err := theirs.Read(buf); err != nil {
						return
					}
				}
			}()
			fmt.Fprintln(theirs, `{"QMP": {}}`)
			_, _ = theirs.Write(append(data, '\n'))
		}()
		v := &vm{}
		if m, err := newMonitor(t.Context(), ours, v.onEvent); err == nil {
			m.close()
		}
	})
}
