package rest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

const (
	idempotencyHeader = "Idempotency-Key"
	// replayedHeader marks a kept answer.
	replayedHeader = "Idempotency-Replayed"
	maxIdempotency = 255 // characters of a key

	// answerLease is the time for which a request in flight keeps its key after
	// its server stops; keepAnswers is the time for which an answer is kept.
	answerLease = 15 * time.Second
	keepAnswers = 24 * time.Hour
	// maxAnswerBytes is the largest body that is kept; maxAnswers and
	// maxAnswersBytes bound all of them. They are enforced every trimEvery
	// requests; the oldest answers are deleted first.
	maxAnswerBytes  = 1 << 20
	maxAnswers      = 10_000
	maxAnswersBytes = 256 << 20
	trimEvery       = 64
	// storeTimeout bounds one write of an answer.
	storeTimeout = 10 * time.Second
)

// Answers keeps the answers to requests with an Idempotency-Key, for all
// servers on one database. *postgres.Store implements it.
type Answers interface {
	// BeginAnswer claims key. begun is true for the caller that carries out the
	// request. Otherwise BeginAnswer returns the answer, as far as it is known.
	BeginAnswer(ctx context.Context, key control.AnswerKey, fingerprint [32]byte, lease, keep time.Duration) (a control.Answer, begun bool, err error)
	RenewAnswer(ctx context.Context, key control.AnswerKey, lease time.Duration) error
	KeepAnswer(ctx context.Context, key control.AnswerKey, a control.Answer) error
	DropAnswer(ctx context.Context, key control.AnswerKey) error
	TrimAnswers(ctx context.Context, maxRows int, maxBytes int64) error
}

// once lets requests with an Idempotency-Key take effect once. The first one is
// passed to next and its answer is kept. A retry with the same key gets that
// answer, and waits for it if necessary. Another request with the key is
// refused with 422. A request without the header goes to next unchanged.
//
// With wholeBody, two requests are the same only if the bytes of their bodies
// are. Without it, only the length of the bodies is compared: uploads are not
// held in memory.
func (s *server) once(next http.HandlerFunc, wholeBody bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		key, err := idempotencyKey(r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		if key.Key == "" {
			next(w, r)
			return
		}
		if s.Answers == nil {
			s.fail(w, r, fault.New(fault.Unsupported, "idempotency_unsupported", "this server does not keep answers; leave out Idempotency-Key"))
			return
		}
		sum, err := fingerprint(w, r, wholeBody)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		s.answerOnce(w, r, key, sum, next)
	}
}

// idempotencyKey returns the key of r, whose Key is empty if r has none.
func idempotencyKey(r *http.Request) (control.AnswerKey, error) {
	given := r.Header.Values(idempotencyHeader)
	if len(given) == 0 {
		return control.AnswerKey{}, nil
	}
	odd := func(c rune) bool { return c < '!' || c > '~' }
	if len(given) > 1 || given[0] == "" || len(given[0]) > maxIdempotency || strings.ContainsFunc(given[0], odd) {
		return control.AnswerKey{}, fault.New(fault.Invalid, "invalid_idempotency_key",
			"Idempotency-Key must be given once, with 1 to %d visible ASCII characters and no space", maxIdempotency)
	}
	return control.AnswerKey{Principal: requestOf(r.Context()).principal, Key: given[0]}, nil
}

// fingerprint returns the hash by which requests are compared. It reads a JSON
// body, also one of several lines, to its end and puts it back.
func fingerprint(w http.ResponseWriter, r *http.Request, wholeBody bool) (sum [32]byte, err error) {
	h := sha256.New()
	streamed := strings.Contains(r.Header.Get("Accept"), ndjson)
	fmt.Fprintf(h, "%s\n%s\n%s\n%t\n%d\n", r.Method, withoutSlash(routedPath(r)), r.URL.RawQuery, streamed, r.ContentLength)
	if strings.Contains(r.Header.Get("Accept"), eventStream) {
		_, _ = io.WriteString(h, eventStream+"\n")
	}
	if wholeBody {
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Now().Add(jsonReadTimeout))
		body, err := io.ReadAll(io.LimitReader(r.Body, maxJSONBytes+1))
		_ = rc.SetReadDeadline(time.Time{})
		if err != nil {
			return sum, fault.Wrap(err, fault.Invalid, "body_incomplete",
				"the body did not arrive whole; with an Idempotency-Key nothing is done before it has arrived")
		}
		if len(body) > maxJSONBytes {
			return sum, fault.New(fault.TooLarge, "body_too_large", "with an Idempotency-Key the body may have at most %d bytes", maxJSONBytes)
		}
		rest := r.Body
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(body), rest), rest}
		h.Write(body)
	}
	h.Sum(sum[:0])
	return sum, nil
}

// answerOnce carries out r, or waits for the answer to the same request.
func (s *server) answerOnce(w http.ResponseWriter, r *http.Request, key control.AnswerKey, sum [32]byte, next http.HandlerFunc) {
	for {
		f, mine := s.flights.begin(key, sum)
		if mine {
			s.lead(w, r, key, f, next)
			return
		}
		if f.sum != sum {
			s.fail(w, r, keyReused())
			return
		}
		select {
		case <-f.done:
		case <-r.Context().Done():
			s.fail(w, r, r.Context().Err())
			return
		}
		if f.answer != nil {
			s.replay(w, r, *f.answer)
			return
		}
		// The first request had no effect: this one is carried out.
	}
}

// lead carries out r as the first request in this process, or returns the
// answer that the database has.
func (s *server) lead(w http.ResponseWriter, r *http.Request, key control.AnswerKey, f *flight, next http.HandlerFunc) {
	defer s.flights.end(key, f)
	a, begun, err := s.claim(r.Context(), key, f.sum)
	switch {
	case err != nil:
		s.fail(w, r, err)
	case begun:
		f.answer = s.perform(w, r, key, f.sum, next)
	default:
		f.answer = &a
		s.replay(w, r, a)
	}
}

// claim takes the key for this server, or waits for the answer of another
// server that has it.
func (s *server) claim(ctx context.Context, key control.AnswerKey, sum [32]byte) (control.Answer, bool, error) {
	if s.begun.Add(1)%trimEvery == 1 {
		if err := s.Answers.TrimAnswers(ctx, maxAnswers, maxAnswersBytes); err != nil {
			return control.Answer{}, false, err
		}
	}
	for {
		a, begun, err := s.Answers.BeginAnswer(ctx, key, sum, answerLease, keepAnswers)
		switch {
		case err != nil || begun:
			return a, begun, err
		case a.Fingerprint != sum:
			return a, false, keyReused()
		case a.Status != 0:
			return a, false, nil
		case a.Abandoned:
			return a, false, fault.New(fault.WrongState, "idempotency_outcome_unknown",
				"the server stopped while it worked on the request with this Idempotency-Key; check whether it took effect, and use a new key to repeat it")
		}
		select {
		case <-time.After(maxClaimWait):
		case <-ctx.Done():
			return a, false, ctx.Err()
		}
	}
}

// maxClaimWait is the longest interval between two polls for the answer of
// another server.
const maxClaimWait = 250 * time.Millisecond

func keyReused() error {
	return withStatus(http.StatusUnprocessableEntity, fault.New(fault.Invalid, "idempotency_key_reused",
		"another request was sent with this Idempotency-Key; use a new key for each request"))
}

// perform carries out r and keeps its answer. It continues if the caller hangs
// up, so that the caller's retry finds the answer. It returns nil if the
// request had no effect, or an unknown one.
func (s *server) perform(w http.ResponseWriter, r *http.Request, key control.AnswerKey, sum [32]byte, next http.HandlerFunc) *control.Answer {
	ctx, cancel := outliving(r.Context())
	defer cancel()
	store, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go s.renew(store, key)
	copier := &answerCopier{ResponseWriter: w}
	next(copier, r.WithContext(ctx))
	a := copier.answer(sum)
	q := requestOf(ctx)
	what := fateOf(cmp.Or(q.failedAs, copier.code()), fault.ReasonOf(q.err))
	if what == fateDrop && q.effective.Load() {
		what = fateKeep
	}
	var err error
	store, stopStore := context.WithTimeout(store, storeTimeout)
	defer stopStore()
	switch what {
	case fateKeep:
		err = s.Answers.KeepAnswer(store, key, a)
	case fateDrop:
		err = s.Answers.DropAnswer(store, key)
	}
	if err != nil {
		s.Log.Error("the answer to a request with an Idempotency-Key is not kept", "request", requestOf(ctx).id, "error", err)
	}
	if what == fateKeep {
		return &a
	}
	return nil
}

// renew prolongs the lease on key until ctx ends.
func (s *server) renew(ctx context.Context, key control.AnswerKey) {
	tick := time.NewTicker(answerLease / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		err := fault.Caught(func() error { return s.Answers.RenewAnswer(ctx, key, answerLease) })
		if err != nil && ctx.Err() == nil {
			s.Log.Warn("the lease on an Idempotency-Key is not renewed, will try again", "error", err)
		}
	}
}

// outliving returns ctx without the cancellation by a caller that hangs up. A
// server that cancels its requests still ends it.
func outliving(ctx context.Context) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancelCause(context.WithValue(context.WithoutCancel(ctx), callerKey{}, ctx))
	if base, ok := ctx.Value(serverKey{}).(context.Context); ok {
		stop := context.AfterFunc(base, func() { cancel(context.Cause(base)) })
		return out, func() { stop(); cancel(nil) }
	}
	return out, func() { cancel(nil) }
}

// callerKey is the key of the context that ends when the caller hangs up.
type callerKey struct{}

// serverKey is the key of the context that all requests of a server share.
type serverKey struct{}

// replay sends a kept answer.
func (s *server) replay(w http.ResponseWriter, r *http.Request, a control.Answer) {
	if a.Body == nil {
		s.fail(w, r, fault.New(fault.WrongState, "idempotency_answer_lost",
			"the request with this Idempotency-Key was carried out with status %d, but its answer was too large to keep", a.Status))
		return
	}
	for name, value := range a.Header {
		w.Header().Set(name, value)
	}
	w.Header().Set(replayedHeader, "true")
	w.WriteHeader(a.Status)
	if _, err := w.Write(a.Body); err != nil && !errors.Is(err, http.ErrBodyNotAllowed) {
		recordError(r.Context(), err)
	}
}
