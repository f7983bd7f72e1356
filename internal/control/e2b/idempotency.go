package e2b

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/auth"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

const (
	headerKey = "Idempotency-Key"
	// maxKey is the largest number of characters of a key. Ours are stored with
	// keyStart before them, so that they are none of the REST API.
	maxKey   = 255
	keyStart = "e2b:"
	// answerLease is the time for which a create in flight keeps its key after its
	// server stops; keepAnswers is the time for which an answer is kept.
	answerLease = 15 * time.Second
	keepAnswers = 24 * time.Hour
	// storeTimeout bounds one write of an answer.
	storeTimeout = 10 * time.Second
	// maxAnswers and maxAnswersBytes bound the kept answers of all dialects. They are
	// enforced every trimEvery requests.
	maxAnswers      = 10_000
	maxAnswersBytes = 256 << 20
	trimEvery       = 64
)

// Answers keeps the answers to creates with an Idempotency-Key, for all servers on one
// database. *postgres.Store implements it.
type Answers interface {
	// BeginAnswer claims key. begun is true for the caller that carries out the
	// request. Otherwise BeginAnswer returns the answer, as far as it is known.
	BeginAnswer(ctx context.Context, key control.AnswerKey, fingerprint [32]byte, lease, keep time.Duration) (a control.Answer, begun bool, err error)
	RenewAnswer(ctx context.Context, key control.AnswerKey, lease time.Duration) error
	KeepAnswer(ctx context.Context, key control.AnswerKey, a control.Answer) error
	DropAnswer(ctx context.Context, key control.AnswerKey) error
	TrimAnswers(ctx context.Context, maxRows int, maxBytes int64) error
}

// once lets a request with an Idempotency-Key take effect once. A repeated one gets the
// answer of the first.
func (s *server) once(next handlerFunc) http.HandlerFunc {
	return s.handle(func(w http.ResponseWriter, r *http.Request) error {
		key := r.Header.Get(headerKey)
		switch {
		case len(r.Header.Values(headerKey)) == 0:
			return next(w, r)
		case key == "" || len(key) > maxKey || strings.ContainsFunc(key, func(c rune) bool { return c < '!' || c > '~' }):
			return invalid("Idempotency-Key must have from 1 to %d visible ASCII characters", maxKey)
		case s.Answers == nil:
			return refuse(http.StatusNotImplemented, "", "this server does not keep answers; leave out Idempotency-Key")
		}
		body, err := readBody(w, r)
		if err != nil {
			return err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		who, _ := auth.PrincipalOf(r.Context())
		c := claimed{s, control.AnswerKey{Principal: who.KeyID, Key: keyStart + key}, sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s", r.Method, r.URL.Path, body))}
		return c.answer(w, r, next)
	})
}

// claimed is a request with its key.
type claimed struct {
	*server
	key control.AnswerKey
	sum [32]byte
}

// answer carries out r, or sends the answer that there is.
func (c claimed) answer(w http.ResponseWriter, r *http.Request, next handlerFunc) error {
	if c.keyed.Add(1)%trimEvery == 1 {
		if err := c.Answers.TrimAnswers(r.Context(), maxAnswers, maxAnswersBytes); err != nil {
			return err
		}
	}
	a, begun, err := c.Answers.BeginAnswer(r.Context(), c.key, c.sum, answerLease, keepAnswers)
	switch {
	case err != nil:
		return err
	case begun:
		return c.perform(w, r, next)
	case a.Fingerprint != c.sum:
		return refuse(http.StatusConflict, wordMismatch, "another request was sent with this Idempotency-Key; use a new key for each request")
	case a.Abandoned || a.Status != 0 && a.Body == nil:
		return refuse(http.StatusUnprocessableEntity, wordUnknown,
			"the outcome of the request with this Idempotency-Key is not known; look at the list of sandboxes, and use a new key to repeat it")
	case a.Status == 0:
		return refuse(http.StatusConflict, wordInProgress, "the request with this Idempotency-Key is still being carried out")
	}
	for name, value := range a.Header {
		w.Header().Set(name, value)
	}
	w.Header().Set("Idempotency-Replayed", "true")
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // an error means that the client has hung up
	return nil
}

// perform carries out r and keeps its answer. An error that has had no effect frees the
// key. After any other one the outcome is not known, and the key keeps that.
func (c claimed) perform(w http.ResponseWriter, r *http.Request, next handlerFunc) error {
	ctx, stop := context.WithCancel(context.WithoutCancel(r.Context()))
	defer stop()
	go c.guarded(func() error { return c.renew(ctx) })
	copied := &copier{ResponseWriter: w}
	failed := next(copied, r)
	store, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	var err error
	switch {
	case failed == nil:
		err = c.Answers.KeepAnswer(store, c.key, control.Answer{
			Fingerprint: c.sum, Status: copied.status, Body: copied.body.Bytes(),
			Header: map[string]string{"Content-Type": copied.Header().Get("Content-Type")},
		})
	case hadNoEffect(r.Context(), failed):
		err = c.Answers.DropAnswer(store, c.key)
	}
	if err != nil {
		c.Log.Error("the answer to a request with an Idempotency-Key is not kept", "error", err)
	}
	return failed
}

func hadNoEffect(ctx context.Context, err error) bool {
	return errorOf(ctx, err).Code < http.StatusInternalServerError || fault.Is(err, fault.NoCapacity)
}

// guarded runs do, and logs its failure.
func (c claimed) guarded(do func() error) {
	if err := fault.Caught(do); err != nil {
		c.Log.Warn("the lease on an Idempotency-Key is not renewed", "error", err)
	}
}

// renew prolongs the lease on the key until ctx ends.
func (c claimed) renew(ctx context.Context) error {
	tick := time.NewTicker(answerLease / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if err := c.Answers.RenewAnswer(ctx, c.key, answerLease); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// copier passes a response on and keeps a copy. The answers to creates are short.
type copier struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

// WriteHeader implements http.ResponseWriter.
func (c *copier) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter. It never fails, because the copy is for the
// client's retry.
func (c *copier) Write(p []byte) (int, error) {
	c.body.Write(p)
	_, _ = c.ResponseWriter.Write(p)
	return len(p), nil
}
