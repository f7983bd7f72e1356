package rest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func (w *world) sameAnswer(a, b answer) {
	w.Helper()
	if a.StatusCode != b.StatusCode || string(a.body) != string(b.body) || a.Header.Get("Location") != b.Header.Get("Location") ||
		a.Header.Get("Content-Type") != b.Header.Get("Content-Type") {
		w.Errorf("answers differ:\n%d %v %s\n%d %v %s", a.StatusCode, a.Header, a.body, b.StatusCode, b.Header, b.body)
	}
	if a.Header.Get("Idempotency-Replayed") != "" || b.Header.Get("Idempotency-Replayed") != "true" {
		w.Errorf("Idempotency-Replayed is %q and %q", a.Header.Get("Idempotency-Replayed"), b.Header.Get("Idempotency-Replayed"))
	}
}

// TestKeyReplaysTheAnswer, also by another server on the same database.
func TestKeyReplaysTheAnswer(t *testing.T) {
	answers := &fakeAnswers{}
	w := newWorld(t, func(c *Config) { c.Answers = answers })
	const key = "Idempotency-Key: k1"
	first := w.want(w.call("POST", "/v1/sandboxes", `{"metadata":{"a":"1"}}`, key), http.StatusCreated)
	w.sameAnswer(first, w.call("POST", "/v1/sandboxes", `{"metadata":{"a":"1"}}`, key))
	if len(w.fake.rows) != 1 {
		t.Fatalf("%d sandboxes were made, want 1", len(w.fake.rows))
	}
	other := newWorld(t, func(c *Config) { c.Answers = answers })
	other.sameAnswer(first, other.call("POST", "/v1/sandboxes", `{"metadata":{"a":"1"}}`, key))
	if len(other.fake.rows) != 0 {
		t.Error("after a restart the request was done again")
	}
	for what, a := range map[string]answer{
		"another body":  w.call("POST", "/v1/sandboxes", `{"metadata":{"a":"2"}}`, key),
		"another route": w.call("DELETE", "/v1/sandboxes/"+string(w.fake.rows[0].ID), "", key),
	} {
		if got := w.want(a, http.StatusUnprocessableEntity).fault(w); got.Code != "idempotency_key_reused" {
			t.Errorf("%s: %s, want idempotency_key_reused", what, got.Code)
		}
	}
	w.want(w.call("POST", "/v1/sandboxes", `{"metadata":{"a":"1"}}`, "Idempotency-Key: k2"), http.StatusCreated)
	if len(w.fake.rows) != 2 || answers.trims == 0 {
		t.Errorf("%d sandboxes, want 2; %d trims, want some", len(w.fake.rows), answers.trims)
	}
}

// TestKeyOnEveryMutatingRoute: each documented operation that has the header
// keeps its answer; the ones without are the ones that change nothing.
func TestKeyOnEveryMutatingRoute(t *testing.T) {
	for path, item := range document().Paths.Map() {
		for method, op := range item.Operations() {
			has := op.Parameters.GetByInAndName("header", "Idempotency-Key") != nil
			if mutates := method != "GET" && op.OperationID != "downloadFile"; has != mutates {
				t.Errorf("%s %s: the document has the header %t, want %t", method, path, has, mutates)
			}
			if !has {
				continue
			}
			answers := &fakeAnswers{err: fault.New(fault.NoCapacity, "asked", "the store was asked")}
			w := newWorld(t, func(c *Config) { c.Answers = answers })
			at := strings.ReplaceAll(path, "{id}", "aaaaaaaaaaaaaaaaaaaa")
			if got := w.call(method, at, "{}", "Idempotency-Key: k").fault(w); got.Code != "asked" {
				t.Errorf("%s %s: %s, the key is not looked at", method, path, got.Code)
			}
		}
	}
}

func TestUploadsWithAKey(t *testing.T) {
	w, path := filesWorld(t, func(c *Config) { c.Answers = &fakeAnswers{} })
	const key = "Idempotency-Key: k1"
	w.want(w.call("PUT", path+"?path=/a", "first", key), http.StatusNoContent)
	w.want(w.call("PUT", path+"?path=/a", "second", "Idempotency-Key: k2"), http.StatusNoContent)
	if a := w.want(w.call("PUT", path+"?path=/a", "first", key), http.StatusNoContent); a.Header.Get(replayedHeader) != "true" {
		t.Error("the retry is not marked as replayed")
	}
	if got := string(w.fake.files["/a"].data); got != "second" {
		t.Errorf("the file holds %q: a retry has undone what came after the first try", got)
	}
	w.want(w.call("PUT", path+"?path=/b", "first", key), http.StatusUnprocessableEntity)
}

// TestDuplicatesJoin: of requests at once one is done and all get its answer,
// though the first caller hangs up.
func TestDuplicatesJoin(t *testing.T) {
	w, path := execWorld(t, func(c *Config) { c.Answers = &fakeAnswers{} })
	var runs atomic.Int32
	started, finish := make(chan struct{}), make(chan struct{})
	w.fake.exec = func(ctx context.Context, _ control.Exec, sink control.ExecSink) (control.ExecResult, error) {
		runs.Add(1)
		close(started)
		<-finish
		if ctx.Err() != nil {
			return control.ExecResult{}, ctx.Err()
		}
		return control.ExecResult{ExitCode: 7}, sink.Stdout([]byte("once"))
	}
	hangUp, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		req, _ := http.NewRequestWithContext(hangUp, "POST", w.url+path, strings.NewReader(`{"cmd":"x"}`))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", "k")
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		gone <- err
	}()
	<-started
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Fatalf("the first caller got %v", err)
	}
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			a := w.call("POST", path, `{"cmd":"x"}`, "Idempotency-Key: k")
			if got := decode[execJSON](w, a); a.StatusCode != http.StatusOK || got.ExitCode != 7 || !strings.Contains(string(a.body), "once") {
				t.Errorf("%d %s", a.StatusCode, a.body)
			}
		})
	}
	close(finish)
	wg.Wait()
	if got := runs.Load(); got != 1 {
		t.Errorf("the command ran %d times, want 1", got)
	}
}

// TestNothingDoneFreesTheKey: a request without effect can be sent again.
func TestNothingDoneFreesTheKey(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Answers = &fakeAnswers{} })
	const key = "Idempotency-Key: k"
	w.fake.createErr = fault.New(fault.NoCapacity, "no_capacity", "full")
	w.want(w.call("POST", "/v1/sandboxes", `{}`, key), http.StatusServiceUnavailable)
	w.want(w.call("POST", "/v1/sandboxes", `{"vcpus":0}`, key), http.StatusBadRequest)
	w.fake.createErr = nil
	w.want(w.call("POST", "/v1/sandboxes", `{}`, key), http.StatusCreated)
	// A request that may have had an effect is not repeated.
	w.fake.createErr = fault.New(fault.HostFailed, "outcome_unknown", "who knows")
	failed := w.want(w.call("POST", "/v1/sandboxes", `{}`, "Idempotency-Key: k2"), http.StatusBadGateway)
	w.fake.createErr = nil
	w.sameAnswer(failed, w.call("POST", "/v1/sandboxes", `{}`, "Idempotency-Key: k2"))
}

// TestAbandonedKey: the server stopped half-way, so nobody knows.
func TestAbandonedKey(t *testing.T) {
	answers := &fakeAnswers{}
	w, path := execWorld(t, func(c *Config) { c.Answers = answers })
	w.fake.exec = func(context.Context, control.Exec, control.ExecSink) (control.ExecResult, error) {
		panic(http.ErrAbortHandler) // as good as a crash of the server
	}
	req, _ := http.NewRequest("POST", w.url+path, strings.NewReader(`{"cmd":"x"}`))
	req.Header.Set("Idempotency-Key", "k")
	if resp, err := client.Do(req); err == nil {
		resp.Body.Close()
		t.Fatalf("status %d, want a cut connection", resp.StatusCode)
	}
	answers.abandon()
	if got := w.want(w.call("POST", path, `{"cmd":"x"}`, "Idempotency-Key: k"), http.StatusConflict).fault(w); got.Code != "idempotency_outcome_unknown" {
		t.Errorf("%s, want idempotency_outcome_unknown", got.Code)
	}
}

func TestLargeAndStreamedAnswers(t *testing.T) {
	w, path := execWorld(t, func(c *Config) { c.Answers = &fakeAnswers{} })
	size := 10
	w.fake.exec = func(_ context.Context, _ control.Exec, sink control.ExecSink) (control.ExecResult, error) {
		return control.ExecResult{}, sink.Stdout([]byte(strings.Repeat("x", size)))
	}
	first := w.want(w.call("POST", path, `{"cmd":"x"}`, "Accept: "+ndjson, "Idempotency-Key: small"), http.StatusOK)
	w.sameAnswer(first, w.call("POST", path, `{"cmd":"x"}`, "Accept: "+ndjson, "Idempotency-Key: small"))
	size = maxAnswerBytes + 1
	for _, accept := range []string{ndjson, "application/json"} {
		a := w.want(w.call("POST", path, `{"cmd":"x"}`, "Accept: "+accept, "Idempotency-Key: large-"+accept[12:13]), http.StatusOK)
		if len(a.body) <= size {
			t.Errorf("%s: the answer has %d bytes", accept, len(a.body))
		}
		again := w.want(w.call("POST", path, `{"cmd":"x"}`, "Accept: "+accept, "Idempotency-Key: large-"+accept[12:13]), http.StatusConflict)
		if got := again.fault(w); got.Code != "idempotency_answer_lost" {
			t.Errorf("%s: %s, want idempotency_answer_lost", accept, got.Code)
		}
	}
}

func TestBadKeys(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Answers = &fakeAnswers{} })
	for _, headers := range [][]string{
		{"Idempotency-Key: "}, {"Idempotency-Key: a b"}, {"Idempotency-Key: é"}, {"Idempotency-Key: " + strings.Repeat("x", maxIdempotency+1)},
		{"Idempotency-Key: a", "Idempotency-Key: b"},
	} {
		if got := w.want(w.call("POST", "/v1/sandboxes", `{}`, headers...), http.StatusBadRequest).fault(w); got.Code != "invalid_idempotency_key" {
			t.Errorf("%q: %s, want invalid_idempotency_key", headers, got.Code)
		}
	}
	none := newWorld(t)
	none.want(none.call("POST", "/v1/sandboxes", `{}`, "Idempotency-Key: k"), http.StatusNotImplemented)
	body := `{"template":"` + strings.Repeat("x", maxJSONBytes) + `"}`
	w.want(w.call("POST", "/v1/sandboxes", body, "Idempotency-Key: k"), http.StatusRequestEntityTooLarge)
	w.want(w.call("DELETE", "/v1/sandboxes/"+string(w.fake.add(sandbox.Running)), "", "Idempotency-Key: k"), http.StatusNoContent)
}

// TestKeyIsNeverIgnored: a request whose body is too large to be compared is
// refused, and not done without its key.
func TestKeyIsNeverIgnored(t *testing.T) {
	w, path := execWorld(t, func(c *Config) { c.Answers = &fakeAnswers{} })
	w.fake.exec = func(_ context.Context, e control.Exec, _ control.ExecSink) (control.ExecResult, error) {
		t.Errorf("%s was run", e.Cmd)
		return control.ExecResult{}, nil
	}
	line := `{"type":"stdin","data":"` + strings.Repeat("x", maxJSONBytes/2) + "\"}\n"
	body := `{"cmd":"cat"}` + "\n" + line + line + line
	a := w.want(w.call("POST", path, body, "Content-Type: "+ndjson, "Idempotency-Key: k"), http.StatusRequestEntityTooLarge)
	if got := a.fault(w); got.Code != "body_too_large" {
		t.Errorf("%s, want body_too_large", got.Code)
	}
	id := w.fake.add(sandbox.Running)
	w.want(w.call("DELETE", "/v1/sandboxes/"+string(id), line+line+line, "Idempotency-Key: k"), http.StatusRequestEntityTooLarge)
	if sb, err := w.fake.Get(t.Context(), id); err != nil || sb.State != sandbox.Running {
		t.Errorf("a refused delete made it %v, %v", sb.State, err)
	}
}
