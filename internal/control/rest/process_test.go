package rest

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/coder/websocket"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// newProcess starts a process in a new sandbox and returns the path of the process.
func (w *world) newProcess(body string) (path string, started types.Process) {
	w.Helper()
	sb := decode[types.Sandbox](w, w.want(w.call("POST", "/v1/sandboxes", "{}"), http.StatusCreated))
	all := "/v1/sandboxes/" + sb.ID + "/processes"
	started = decode[types.Process](w, w.want(w.call("POST", all, body), http.StatusCreated))
	return all + "/" + started.ID, started
}

func TestProcessLife(t *testing.T) {
	w := newWorld(t)
	path, p := w.newProcess(`{"cmd":"make","args":["all"],"stdin":true,"timeout_sec":9,"on_full":"block","journal_bytes":65536}`)
	start := w.fake.processes[0].start
	if p.Status != "running" || p.ExitCode != nil || start.Command.Timeout.Seconds() != 9 || !start.Block || start.JournalBytes != 65536 || !start.Stdin {
		t.Errorf("got %+v from the start %+v", p, start)
	}
	w.want(w.call("GET", path, ""), http.StatusOK)
	if list := decode[[]types.Process](w, w.want(w.call("GET", path[:strings.LastIndex(path, "/")], ""), http.StatusOK)); len(list) != 1 || list[0].ID != p.ID {
		t.Errorf("got the list %+v, want one process", list)
	}
	for _, body := range []string{`{"signal":"SIGINT"}`, `{"signal":"HUP","all":true}`} {
		w.want(w.call("POST", path+"/signal", body), http.StatusOK)
	}
	w.want(w.call("POST", path+"/resize", `{"cols":100,"rows":30}`), http.StatusOK)
	w.want(w.call("DELETE", path+"/stdin", ""), http.StatusOK)
	if acked := decode[types.Process](w, w.want(w.call("POST", path+"/ack", `{"offset":7}`), http.StatusOK)); acked.AcknowledgedOffset != 7 {
		t.Errorf("got the acknowledged offset %d, want 7", acked.AcknowledgedOffset)
	}
	id := control.ProcessID(p.ID)
	want := []control.ProcessCall{
		control.ProcessSignal{ID: id, Number: 2}, control.ProcessSignal{ID: id, Number: 1, All: true},
		control.ProcessResize{ID: id, Size: control.TerminalSize{Cols: 100, Rows: 30}},
	}
	for i, call := range want {
		if got := w.fake.processes[0].sent[i]; got != call {
			t.Errorf("operation %d: got %+v, want %+v", i, got, call)
		}
	}
	if in, ok := w.fake.processes[0].sent[3].(control.ProcessInput); !ok || !in.Close {
		t.Errorf("got %+v, want the close of stdin", w.fake.processes[0].sent[3])
	}
	ended := decode[types.Process](w, w.want(w.call("GET", path+"/wait?timeout_sec=1", ""), http.StatusOK))
	if ended.Status != "exited" || *ended.ExitCode != 143 || *ended.Signal != "terminated" || ended.EndedAt == nil {
		t.Errorf("got %+v after the wait", ended)
	}
}

func TestProcessInput(t *testing.T) {
	w := newWorld(t)
	path, _ := w.newProcess(`{"cmd":"cat","stdin":true}`)
	post := func(query, typ, body string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), "POST", w.url+path+"/stdin"+query, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", typ)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp
	}
	big := strings.Repeat("\x00\xff", maxProcessInput/2)
	for _, c := range []struct {
		query, typ, body string
		status           int
	}{
		{"", "application/octet-stream", "a\xff", 200},
		{"?close=true", "application/octet-stream", "b", 200},
		{"", "application/octet-stream", big, 200},
		{"", "application/octet-stream", big + "x", 413},
		{"?close=maybe", "application/octet-stream", "b", 400},
		{"", "application/json", "{}", 415},
	} {
		if resp := post(c.query, c.typ, c.body); resp.StatusCode != c.status {
			t.Errorf("%s of %d bytes of %s: got %d, want %d", c.query, len(c.body), c.typ, resp.StatusCode, c.status)
		}
	}
	if got := string(w.fake.processes[0].input); got != "a\xffb"+big {
		t.Errorf("the process got %d bytes, want %d", len(got), 3+len(big))
	}
}

func TestProcessRefusals(t *testing.T) {
	w := newWorld(t)
	path, _ := w.newProcess(`{"cmd":"bash","pty":true}`)
	if size := w.fake.processes[0].start.Terminal; size == nil || *size != (control.TerminalSize{Cols: 80, Rows: 24}) {
		t.Errorf("got a terminal of %v, want 80 times 24", size)
	}
	all := path[:strings.LastIndex(path, "/")]
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"POST", all, `{"cmd":""}`, 400, "invalid_cmd"},
		{"POST", all, `{"cmd":"x","on_full":"drop"}`, 400, "invalid_on_full"},
		{"POST", all, `{"cmd":"x","journal_bytes":1}`, 400, "invalid_journal"},
		{"POST", all, `{"cmd":"x","cols":10}`, 400, "invalid_size"},
		{"POST", all, `{"cmd":"x","pty":true,"rows":70000}`, 400, "invalid_size"},
		{"POST", all, `{"cmd":"x","timeout_sec":-1}`, 400, "invalid_timeout"},
		{"GET", all + "/nosuch", "", 404, "process_not_found"},
		{"GET", all + "/No-Such", "", 404, "process_not_found"},
		{"GET", path + "/wait?timeout_sec=x", "", 400, "invalid_timeout"},
		{"POST", path + "/signal", `{"signal":"SIGSURPRISE"}`, 400, "invalid_signal"},
		{"POST", path + "/resize", `{"cols":0,"rows":1}`, 400, "invalid_size"},
		{"POST", path + "/ack", `{"offset":-1}`, 400, "invalid_offset"},
		{"GET", path + "/attach?offset=-2", "", 400, "invalid_offset"},
		{"GET", path + "/attach?ack=never", "", 400, "invalid_query"},
		{"GET", all + "/nosuch/attach", "", 404, "process_not_found"},
	} {
		a := w.call(c.method, c.path, c.body)
		if got := decode[errorJSON](w, w.want(a, c.status)); got.Error.Code != c.code {
			t.Errorf("%s %s %s: got %s, want %s", c.method, c.path, c.body, got.Error.Code, c.code)
		}
	}
}

// sse is one server-sent event.
type sse struct{ event, id, data string }

// events requests path and returns the events of the answer.
func (w *world) events(path, last string) (out []sse) {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), "GET", w.url+path, nil)
	if err != nil {
		w.Fatal(err)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		w.Fatalf("got %d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	one := sse{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "event":
			one.event = value
		case "id":
			one.id = value
		case "data":
			one.data = value
		case "":
			out, one = append(out, one), sse{}
		}
	}
	return out
}

func TestAttachByEvents(t *testing.T) {
	w := newWorld(t)
	path, _ := w.newProcess(`{"cmd":"x"}`)
	got := w.events(path+"/attach", "")
	want := []sse{
		{"truncated", "5", `{"offset":0,"bytes":5}`},
		{"stdout", "7", `{"offset":5,"data":"aMM=","encoding":"base64"}`},
		{"stdout", "12", `{"offset":7,"data":"qWxsbwo=","encoding":"base64"}`},
		{"stderr", "15", `{"offset":12,"data":"oh\n","encoding":"utf-8"}`},
		{"stdout", "16", `{"offset":15,"data":"/w==","encoding":"base64"}`},
	}
	if len(got) != len(want)+2 || got[0].event != "process" || got[0].id != "" || got[6].event != "exit" || got[6].id != "16" {
		t.Fatalf("got %q, want the process, its output and its end", got)
	}
	for i, e := range want {
		if got[i+1] != e {
			t.Errorf("event %d: got %q, want %q", i+1, got[i+1], e)
		}
	}
	if p := (types.Process{}); json.Unmarshal([]byte(got[6].data), &p) != nil || p.Status != "exited" {
		t.Errorf("got the end %s", got[6].data)
	}
	if got := w.events(path+"/attach?offset=0", "13"); got[1] != (sse{"stderr", "15", `{"offset":13,"data":"h\n","encoding":"utf-8"}`}) {
		t.Errorf("after the event 13: got %q, want the rest of stderr", got[1])
	}
	w.fake.attachErr = fault.New(fault.WrongState, control.ReasonPaused, "the sandbox was paused")
	got = w.events(path+"/attach?offset=16", "")
	if len(got) != 2 || got[1].event != "error" || !strings.Contains(got[1].data, `"code":"sandbox_paused"`) {
		t.Errorf("got %q, want the process and the error", got)
	}
}

func TestAttachByWebSocket(t *testing.T) {
	w := newWorld(t)
	path, _ := w.newProcess(`{"cmd":"x","stdin":true}`)
	conn, _, err := websocket.Dial(t.Context(), w.url+path+"/attach?offset=5&ack=explicit", &websocket.DialOptions{Subprotocols: []string{processProtocol}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if conn.Subprotocol() != processProtocol {
		t.Errorf("got the subprotocol %q", conn.Subprotocol())
	}
	var got []string
	for {
		typ, message, err := conn.Read(t.Context())
		if err != nil {
			if websocket.CloseStatus(err) != websocket.StatusNormalClosure {
				t.Errorf("got %v, want a normal end", err)
			}
			break
		}
		if typ == websocket.MessageText {
			var e types.ProcessSocketEvent
			if err := json.Unmarshal(message, &e); err != nil {
				t.Fatal(err)
			}
			message = []byte(e.Type)
		}
		got = append(got, string(message))
	}
	want := []string{
		"process", "\x01\x00\x00\x00\x00\x00\x00\x00\x05h\xc3", "\x01\x00\x00\x00\x00\x00\x00\x00\x07\xa9llo\n",
		"\x02\x00\x00\x00\x00\x00\x00\x00\x0coh\n", "\x01\x00\x00\x00\x00\x00\x00\x00\x0f\xff", "exit",
	}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q, want %q", got, want)
	}
	_, resp, err := websocket.Dial(t.Context(), w.url+path[:len(path)-1]+"/attach", nil)
	if err == nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("an unknown process: got %v, %v; want 404", resp, err)
	}
}

// TestSocketMessages: each message of a client becomes its operation, and one that has
// no meaning is refused.
func TestSocketMessages(t *testing.T) {
	for message, want := range map[string]control.ProcessCall{
		`{"type":"resize","cols":9,"rows":8}`:          control.ProcessResize{ID: "p", Size: control.TerminalSize{Cols: 9, Rows: 8}},
		`{"type":"signal","signal":"TERM","all":true}`: control.ProcessSignal{ID: "p", Number: 15, All: true},
		`{"type":"ack","offset":5}`:                    control.ProcessAck{ID: "p", Offset: 5},
		`{"type":"ack","offset":-5}`:                   nil,
		`{"type":"resize","cols":0,"rows":8}`:          nil,
		`{"type":"signal","signal":"x"}`:               nil,
		`{"type":"new"}`:                               nil,
		`[]`:                                           nil,
	} {
		got, err := socketCall("p", []byte(message))
		if got != want || (err == nil) != (want != nil) {
			t.Errorf("%s: got %+v, %v; want %+v", message, got, err, want)
		}
	}
	if in, _ := socketCall("p", []byte(`{"type":"close_stdin"}`)); in == nil || !in.(control.ProcessInput).Close {
		t.Errorf("close_stdin: got %+v, want the close", in)
	}
}

// TestKeyedFollowerEndsWithItsCaller: an Idempotency-Key lets a request outlive its
// caller, but not the reader that a start with events attaches.
func TestKeyedFollowerEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		caller, hangUp := context.WithCancel(t.Context())
		request, release := outliving(caller)
		defer release()
		ctx, cancel := untilStopping(httptest.NewRequestWithContext(request, http.MethodPost, "/", nil))
		defer cancel()
		hangUp()
		synctest.Wait()
		if ctx.Err() == nil || request.Err() != nil {
			t.Errorf("after the caller hung up: reader %v, request %v; want the reader canceled and the request going on", ctx.Err(), request.Err())
		}
	})
}

func TestKeyTellsEventsFromAnAnswer(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Answers = &fakeAnswers{} })
	path, _ := w.newProcess(`{"cmd":"x"}`)
	all, key := path[:strings.LastIndex(path, "/")], "Idempotency-Key: k1"
	w.want(w.call("POST", all, `{"cmd":"x"}`, key), http.StatusCreated)
	again := w.call("POST", all, `{"cmd":"x"}`, key, "Accept: text/event-stream")
	if got := w.want(again, http.StatusUnprocessableEntity).fault(w); got.Code != "idempotency_key_reused" {
		t.Errorf("the same key, now with events: got %s, want idempotency_key_reused", got.Code)
	}
}
