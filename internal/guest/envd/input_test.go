package envd

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// frames writes the frames of a stream of requests.
type frames struct {
	t *testing.T
	*io.PipeWriter
}

func (f frames) send(message map[string]any) {
	f.t.Helper()
	payload, err := json.Marshal(message)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.Write(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(payload))), payload...)); err != nil {
		f.t.Fatal(err)
	}
}

func (f frames) input(kind, text string) {
	f.t.Helper()
	f.send(map[string]any{"data": map[string]any{"input": map[string]any{kind: base64.StdEncoding.EncodeToString([]byte(text))}}})
}

// streamInput begins a stream of input to the process with tag. The channel gets its
// answer: the last frames.
func (g *guest) streamInput(tag string, header ...string) (frames, <-chan string) {
	g.t.Helper()
	r, w := io.Pipe()
	req, err := http.NewRequestWithContext(g.t.Context(), http.MethodPost, g.base+"/process.Process/StreamInput", r)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, h := range [][2]string{{"Content-Type", "application/connect+json"}, {"Connect-Protocol-Version", "1"}, {"Connect-Content-Encoding", "identity"}, {headerToken, g.token}} {
		req.Header.Set(h[0], h[1])
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	answered := make(chan string, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		answered <- string(b)
	}()
	f := frames{g.t, w}
	g.t.Cleanup(func() { _ = w.Close() })
	f.send(map[string]any{"start": map[string]any{"process": map[string]any{"tag": tag}}})
	return f, answered
}

// TestInputArrivesFrameByFrame: a process gets each frame of a stream before the client
// sends the next one.
func TestInputArrivesFrameByFrame(t *testing.T) {
	g := newGuest(t).open()
	s := g.stream(procStart, map[string]any{"process": shell(`while read -r line; do echo "got $line"; done`), "tag": "reader"})
	s.next()
	in, answered := g.streamInput("reader", headerTimeout, "60000")
	for _, line := range []string{"one", "two", "three"} {
		in.input("stdin", line+"\n")
		event, last := s.next()
		data, _ := event["event"].(map[string]any)["data"].(map[string]any)
		got, _ := data["stdout"].(string)
		if text, _ := base64.StdEncoding.DecodeString(got); last || string(text) != "got "+line+"\n" {
			t.Fatalf("after %q: got %v", line, event)
		}
		in.send(map[string]any{"keepalive": map[string]any{}})
	}
	_ = in.Close()
	if got := <-answered; !strings.Contains(got, "{}") || strings.Contains(got, "error") {
		t.Errorf("the answer is %q, want an empty message", got)
	}
	if status, out := g.call("/process.Process/CloseStdin", map[string]any{"process": map[string]any{"tag": "reader"}}); status != http.StatusOK {
		t.Fatalf("%d %v", status, out)
	}
	if r := s.all(); r.end["exitCode"] != nil && r.end["exitCode"] != 0.0 {
		t.Errorf("%+v", r)
	}
}

// TestInputStreamTimesOut: the timeout of a stream of input ends the stream, also while the
// client sends nothing or the process reads nothing, and not the process.
func TestInputStreamTimesOut(t *testing.T) {
	g := newGuest(t).open()
	s := g.stream(procStart, map[string]any{"process": map[string]any{"cmd": "sleep", "args": []string{"1000"}}, "tag": "deaf"})
	s.next()
	_, silent := g.streamInput("deaf", headerTimeout, "200")
	full, blocked := g.streamInput("deaf", headerTimeout, "1000")
	full.input("stdin", strings.Repeat("x", 1<<20))
	for name, answered := range map[string]<-chan string{"a silent client": silent, "a process that does not read": blocked} {
		if got := <-answered; !strings.Contains(got, `"deadline_exceeded"`) {
			t.Errorf("%s: got %q, want deadline_exceeded", name, got)
		}
	}
	if _, out := g.call("/process.Process/List", map[string]any{}); len(out["processes"].([]any)) != 1 {
		t.Errorf("the process has ended: %v", out)
	}
}

// TestInputToNoProcess: the errors of a stream of input.
func TestInputToNoProcess(t *testing.T) {
	g := newGuest(t).open()
	_, answered := g.streamInput("nobody")
	if got := <-answered; !strings.Contains(got, `"not_found"`) {
		t.Errorf("an unknown process: got %q, want not_found", got)
	}
	s := g.stream(procStart, map[string]any{"process": map[string]any{"cmd": "sleep", "args": []string{"1000"}}, "tag": "closed", "stdin": false})
	s.next()
	in, answered := g.streamInput("closed")
	in.input("stdin", "x")
	if got := <-answered; !strings.Contains(got, `"failed_precondition"`) {
		t.Errorf("a process without stdin: got %q, want failed_precondition", got)
	}
}
