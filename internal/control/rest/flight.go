package rest

import (
	"net/http"
	"strings"
	"sync"

	"github.com/wrenn-dev/wrenn/internal/control"
)

// flight is a request with an Idempotency-Key that this process works on.
type flight struct {
	sum [32]byte
	// done is closed at the end. answer is written once before that; nil means
	// that there is no answer to share.
	done   chan struct{}
	answer *control.Answer
}

// flights holds the requests in flight, by key. The zero value is ready to use.
type flights struct {
	mu sync.Mutex
	m  map[control.AnswerKey]*flight
}

// begin returns the flight of key. mine is true for the caller that started the
// flight and must end it.
func (f *flights) begin(key control.AnswerKey, sum [32]byte) (fl *flight, mine bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl, ok := f.m[key]; ok {
		return fl, false
	}
	if f.m == nil {
		f.m = make(map[control.AnswerKey]*flight)
	}
	fl = &flight{sum: sum, done: make(chan struct{})}
	f.m[key] = fl
	return fl, true
}

func (f *flights) end(key control.AnswerKey, fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.m, key)
	close(fl.done)
}

// fate tells whether the answer to a request with an Idempotency-Key is kept.
type fate int

const (
	fateKeep fate = iota
	// fateDrop: the request had no effect, and a retry is carried out.
	fateDrop
	// fateLeave: the effect is unknown, so a retry with this key is refused.
	fateLeave
)

// fateOf decides by the status and, if it is an error, by its code.
func fateOf(status int, code string) fate {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
		http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusTooManyRequests:
		return fateDrop
	case http.StatusServiceUnavailable:
		if code == errShuttingDown.Reason || code == reasonInterrupted || strings.HasPrefix(code, "database_") {
			return fateLeave
		}
		return fateDrop
	default:
		return fateKeep
	}
}

// keptHeaders are the headers of an answer that are kept with it.
var keptHeaders = []string{"Content-Type", "Location", "Cache-Control", "X-Content-Type-Options"}

// answerCopier passes a response on and keeps a copy of it, if that has at most
// maxAnswerBytes. It does not fail if the client has hung up, because the copy
// is for the client's retry.
type answerCopier struct {
	http.ResponseWriter
	status int
	body   []byte
	large  bool
}

// Unwrap lets http.ResponseController reach the connection.
func (k *answerCopier) Unwrap() http.ResponseWriter { return k.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (k *answerCopier) WriteHeader(status int) {
	if k.status == 0 && status >= http.StatusOK {
		k.status = status
	}
	k.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter. It never fails.
func (k *answerCopier) Write(p []byte) (int, error) {
	if k.status == 0 {
		k.status = http.StatusOK
	}
	if k.large = k.large || len(k.body)+len(p) > maxAnswerBytes; k.large {
		k.body = nil
	} else {
		k.body = append(k.body, p...)
	}
	_, _ = k.ResponseWriter.Write(p)
	return len(p), nil
}

// FlushError implements the method that http.ResponseController looks for.
func (k *answerCopier) FlushError() error {
	_ = http.NewResponseController(k.ResponseWriter).Flush()
	return nil
}

func (k *answerCopier) code() int {
	if k.status == 0 {
		return http.StatusOK
	}
	return k.status
}

// answer returns the copy.
func (k *answerCopier) answer(sum [32]byte) control.Answer {
	a := control.Answer{Fingerprint: sum, Status: k.code(), Header: make(map[string]string)}
	for _, name := range keptHeaders {
		if v := k.Header().Get(name); v != "" {
			a.Header[name] = v
		}
	}
	if !k.large {
		a.Body = append([]byte{}, k.body...)
	}
	return a
}
