package e2b

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// kept is a store of answers in memory.
type kept struct {
	mu sync.Mutex
	m  map[control.AnswerKey]control.Answer
}

func (k *kept) BeginAnswer(_ context.Context, key control.AnswerKey, sum [32]byte, _, _ time.Duration) (control.Answer, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a, ok := k.m[key]; ok {
		return a, false, nil
	}
	k.m[key] = control.Answer{Fingerprint: sum}
	return control.Answer{}, true, nil
}

func (k *kept) RenewAnswer(context.Context, control.AnswerKey, time.Duration) error { return nil }

func (k *kept) KeepAnswer(_ context.Context, key control.AnswerKey, a control.Answer) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.m[key] = a
	return nil
}

func (k *kept) DropAnswer(_ context.Context, key control.AnswerKey) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.m, key)
	return nil
}

func (k *kept) TrimAnswers(context.Context, int, int64) error { return nil }

// TestOnce: a create with a key takes effect once, and each way in which a repeated one
// can end has its status.
func TestOnce(t *testing.T) {
	store := &kept{m: make(map[control.AnswerKey]control.Answer)}
	s := &server{Config: Config{Answers: store, Log: quiet()}}
	var failure error
	calls := 0
	h := s.once(func(w http.ResponseWriter, r *http.Request) error {
		calls++
		if failure != nil {
			return failure
		}
		writeJSON(w, http.StatusCreated, calls)
		return nil
	})
	do := func(key, body string, status int, word string) string {
		t.Helper()
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/v2/sandboxes", bytes.NewBufferString(body))
		r.Header.Set(headerKey, key)
		h(w, r)
		if w.Code != status || !strings.Contains(w.Body.String(), word) {
			t.Errorf("key %q, body %s: %d %s, want %d with %q", key, body, w.Code, w.Body, status, word)
		}
		return w.Body.String()
	}
	if a, b := do("a-1", "{}", 201, ""), do("a-1", "{}", 201, ""); a != b || calls != 1 {
		t.Errorf("answers %q and %q after %d calls, want one call and its answer twice", a, b, calls)
	}
	do("a-1", `{"a":1}`, 409, wordMismatch)
	failure = refuse(http.StatusNotFound, "", "no such template")
	do("b", "{}", 404, "")
	failure = fault.New(fault.NoCapacity, "no_capacity", "full")
	do("b", "{}", 503, "") // the 404 has freed the key
	failure = fault.New(fault.Timeout, "timeout", "the host has not answered")
	do("b", "{}", 504, "")
	failure = nil
	do("b", "{}", 409, wordInProgress)
	for key, a := range store.m {
		if a.Status == 0 {
			a.Abandoned = true
			store.m[key] = a
		}
	}
	do("b", "{}", 422, wordUnknown)
	do("", "{}", 400, "")
	do(strings.Repeat("a", 256), "{}", 400, "")
}
