package envd

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// stream is a server stream read as its clients see it on the wire.
type stream struct {
	t      *testing.T
	body   io.ReadCloser
	cancel context.CancelFunc
}

// stream calls procedure with the framing of the Connect protocol, in JSON.
func (g *guest) stream(procedure string, message map[string]any, header ...string) *stream {
	g.t.Helper()
	payload, err := json.Marshal(message)
	if err != nil {
		g.t.Fatal(err)
	}
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(payload)))
	ctx, cancel := context.WithCancel(g.t.Context())
	g.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.base+procedure, bytes.NewReader(append(frame, payload...)))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/connect+json")
	req.Header.Set("Connect-Protocol-Version", "1")
	req.Header.Set(headerToken, g.token)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		g.t.Fatalf("%s: %d %s", procedure, resp.StatusCode, b)
	}
	return &stream{t: g.t, body: resp.Body, cancel: cancel}
}

// next returns the next frame, and whether it was the last.
func (s *stream) next() (message map[string]any, last bool) {
	s.t.Helper()
	var head [5]byte
	if _, err := io.ReadFull(s.body, head[:]); err != nil {
		s.t.Fatalf("read frame: %v", err)
	}
	payload := make([]byte, binary.BigEndian.Uint32(head[1:]))
	if _, err := io.ReadFull(s.body, payload); err != nil {
		s.t.Fatalf("read frame: %v", err)
	}
	if err := json.Unmarshal(payload, &message); err != nil {
		s.t.Fatalf("frame %q: %v", payload, err)
	}
	return message, head[0] == 2
}

// result is all that a command's stream said.
type result struct {
	pid                 float64
	stdout, stderr, pty string
	end, err            map[string]any
	keepalives          int
}

// all reads a stream of process events to its last frame.
func (s *stream) all() (r result) {
	s.t.Helper()
	text := func(data map[string]any, key string) string {
		encoded, _ := data[key].(string)
		b, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			s.t.Fatal(err)
		}
		return string(b)
	}
	for {
		m, last := s.next()
		if last {
			r.err, _ = m["error"].(map[string]any)
			return r
		}
		event := m["event"].(map[string]any)
		if start, ok := event["start"].(map[string]any); ok {
			r.pid = start["pid"].(float64)
		}
		if data, ok := event["data"].(map[string]any); ok {
			r.stdout += text(data, "stdout")
			r.stderr += text(data, "stderr")
			r.pty += text(data, "pty")
		}
		if _, ok := event["keepalive"]; ok {
			r.keepalives++
		}
		if end, ok := event["end"].(map[string]any); ok {
			r.end = end
		}
	}
}

// untilEnd reads until the stream breaks or ends.
func (s *stream) untilEnd() { _, _ = io.Copy(io.Discard, s.body) }

func shell(script string) map[string]any {
	return map[string]any{"cmd": "/bin/sh", "args": []string{"-c", script}}
}

const procStart = "/process.Process/Start"

func TestStartOnTheWire(t *testing.T) {
	g := newGuest(t).open()
	p := shell("echo $FROM-$OWN; echo err >&2; pwd; exit 3")
	p["envs"], p["cwd"] = map[string]string{"OWN": "command"}, "/tmp"
	r := g.stream(procStart, map[string]any{"process": p, "stdin": false}).all()
	if r.pid == 0 || r.stdout != "sandbox-command\n/tmp\n" || r.stderr != "err\n" || r.err != nil {
		t.Errorf("%+v", r)
	}
	if r.end["exitCode"] != 3.0 || r.end["exited"] != true || r.end["status"] != "exit status 3" || r.end["error"] != "exit status 3" {
		t.Errorf("end %v", r.end)
	}
}

func TestStartErrors(t *testing.T) {
	g := newGuest(t).open()
	inNowhere := shell("true")
	inNowhere["cwd"] = "/no/such/place"
	tests := []struct {
		name    string
		process map[string]any
		header  []string
		code    string
		message string
	}{
		{"missing cwd", inNowhere, nil, "invalid_argument", "cwd '/no/such/place' does not exist"},
		{"unknown command", map[string]any{"cmd": "no-such-command"}, nil, "invalid_argument", ""},
		{"no process", nil, nil, "invalid_argument", ""},
		{"unknown user", shell("true"), []string{"Authorization", "Basic bm9ib2R5LWhlcmU6"}, "unauthenticated", "invalid username: 'nobody-here'"},
	}
	for _, tt := range tests {
		r := g.stream(procStart, map[string]any{"process": tt.process}, tt.header...).all()
		if r.err["code"] != tt.code || tt.message != "" && r.err["message"] != tt.message {
			t.Errorf("%s: %v", tt.name, r.err)
		}
	}
}

func TestTimeoutIsTheLifeOfTheCommand(t *testing.T) {
	g := newGuest(t).open()
	r := g.stream(procStart, map[string]any{"process": shell("echo begun; sleep 1000")}, headerTimeout, "300").all()
	if r.err["code"] != "deadline_exceeded" || r.end != nil {
		t.Errorf("%+v", r)
	}
	if _, out := g.call("/process.Process/List", map[string]any{}); out["processes"] != nil {
		t.Errorf("still running: %v", out)
	}
}

func TestHangingUpDoesNotKill(t *testing.T) {
	g := newGuest(t).open()
	s := g.stream(procStart, map[string]any{"process": map[string]any{"cmd": "cat"}, "tag": "bg", "pty": nil})
	s.next()
	s.cancel()
	selector := map[string]any{"tag": "bg"}
	again := g.stream("/process.Process/Connect", map[string]any{"process": selector})
	again.next()
	input := map[string]any{"stdin": base64.StdEncoding.EncodeToString([]byte("hello"))}
	if status, out := g.call("/process.Process/SendInput", map[string]any{"process": selector, "input": input}); status != http.StatusOK {
		t.Fatalf("%d %v", status, out)
	}
	if status, out := g.call("/process.Process/CloseStdin", map[string]any{"process": selector}); status != http.StatusOK {
		t.Fatalf("%d %v", status, out)
	}
	if r := again.all(); r.stdout != "hello" || r.end["exited"] != true {
		t.Errorf("%+v", r)
	}
	// It has ended, and can still be asked how.
	if r := g.stream("/process.Process/Connect", map[string]any{"process": selector}).all(); r.pid == 0 || r.end["status"] != "exit status 0" {
		t.Errorf("late: %+v", r)
	}
}

func TestKillAndKeepalive(t *testing.T) {
	g := newGuest(t).open()
	s := g.stream(procStart, map[string]any{"process": map[string]any{"cmd": "sleep", "args": []string{"1000"}}}, headerKeepalive, "1")
	start, _ := s.next()
	if beat, _ := s.next(); beat["event"].(map[string]any)["keepalive"] == nil {
		t.Errorf("no keepalive: %v", beat)
	}
	pid := start["event"].(map[string]any)["start"].(map[string]any)["pid"]
	kill := map[string]any{"process": map[string]any{"pid": pid}, "signal": "SIGNAL_SIGKILL"}
	if status, out := g.call("/process.Process/SendSignal", kill); status != http.StatusOK {
		t.Fatalf("%d %v", status, out)
	}
	r := s.all()
	if r.end["exitCode"] != -1.0 || r.end["error"] != "signal: killed" || r.end["exited"] == true {
		t.Errorf("%v", r.end)
	}
	if status, out := g.call("/process.Process/SendSignal", kill); status != http.StatusNotFound || out["code"] != "not_found" {
		t.Errorf("%d %v", status, out)
	}
}

func TestTerminalOnTheWire(t *testing.T) {
	g := newGuest(t).open()
	s := g.stream(procStart, map[string]any{
		"process": shell("read x; stty size"), "tag": "tty", "pty": map[string]any{"size": map[string]any{"cols": 80, "rows": 24}},
	})
	s.next()
	selector := map[string]any{"tag": "tty"}
	size := map[string]any{"size": map[string]any{"cols": 99, "rows": 11}}
	if status, out := g.call("/process.Process/Update", map[string]any{"process": selector, "pty": size}); status != http.StatusOK {
		t.Fatalf("%d %v", status, out)
	}
	input := map[string]any{"pty": base64.StdEncoding.EncodeToString([]byte("\n"))}
	if status, out := g.call("/process.Process/SendInput", map[string]any{"process": selector, "input": input}); status != http.StatusOK {
		t.Fatalf("%d %v", status, out)
	}
	if r := s.all(); !strings.Contains(r.pty, "11 99") {
		t.Errorf("%+v", r)
	}
}
