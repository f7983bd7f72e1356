package rest

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

const requestIDHeader = "X-Request-Id"

// saneRequestID is the form in which a caller's own request id is kept: it goes
// into a header and into logs.
var saneRequestID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// request holds the facts of a request for its log line. It belongs to the
// request's goroutine.
type request struct {
	id        string
	principal string
	err       error
	// effective is set once the request has begun to take effect, so that an
	// error that comes later does not free its Idempotency-Key. Any goroutine
	// may set it.
	effective atomic.Bool
	// failedAs is the status that err would have had, if err came after the header of the
	// answer. It is 0 if the status of the answer is that of the outcome.
	failedAs int
}

type requestKey struct{}

// requestOf returns the request that observe put into ctx.
func requestOf(ctx context.Context) *request {
	q, _ := ctx.Value(requestKey{}).(*request)
	if q == nil {
		return &request{}
	}
	return q
}

// recordError passes err to the access log, which records the last one.
func recordError(ctx context.Context, err error) { requestOf(ctx).err = err }

// observe gives each request its id and writes its line in the access log. It
// logs the route, not the path, and never a body, a query, a header or a
// token.
func (s *server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		q := &request{id: requestID(r)}
		w.Header().Set(requestIDHeader, q.id)
		rec := &recorder{ResponseWriter: w}
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, q))
		defer func() {
			s.logAccess(r, rec, time.Since(begin))
			if r.ContentLength != 0 {
				leaveBody(w, s.StallTimeout)
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

func requestID(r *http.Request) string {
	if given := r.Header.Get(requestIDHeader); saneRequestID.MatchString(given) {
		return given
	}
	return rand.Text()
}

func (s *server) logAccess(r *http.Request, rec *recorder, took time.Duration) {
	q := requestOf(r.Context())
	attrs := []slog.Attr{
		slog.String("request", q.id),
		slog.String("method", r.Method),
		slog.Int("status", rec.code()),
		slog.Duration("duration", took),
		slog.Int64("bytes", rec.bytes),
	}
	if rc := chi.RouteContext(r.Context()); rc != nil {
		route, key := rc.RoutePattern(), "sandbox"
		if strings.HasPrefix(route, "/v1/snapshots/") {
			key = "snapshot"
		}
		attrs = append(attrs, slog.String("route", route))
		if id, err := sandbox.ParseID(rc.URLParam("id")); err == nil {
			attrs = append(attrs, slog.String(key, string(id)))
		}
	}
	if q.principal != "" {
		attrs = append(attrs, slog.String("principal", q.principal))
	}
	level := slog.LevelInfo
	if q.err != nil {
		attrs = append(attrs, slog.String("code", fault.ReasonOf(q.err)), slog.Any("error", q.err))
		if rec.code() >= http.StatusInternalServerError {
			level = slog.LevelError
		}
	}
	s.Log.LogAttrs(r.Context(), level, "request", attrs...)
}

// recover turns a panic into a 500, or cuts the connection if part of the
// answer has been sent. http.ErrAbortHandler passes, because a handler cuts the
// connection with it.
func (s *server) recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v == http.ErrAbortHandler { //nolint:errorlint // the sentinel itself is thrown
				panic(v)
			}
			err := fault.Wrap(fmt.Errorf("panic: %v\n%s", v, debug.Stack()),
				fault.Internal, "internal", "an internal error; the request id finds it in the server's log")
			if rec, ok := w.(*recorder); ok && rec.status != 0 {
				recordError(r.Context(), err)
				panic(http.ErrAbortHandler)
			}
			s.fail(w, r, err)
		}()
		next.ServeHTTP(w, r)
	})
}

// recorder records the status and size of an answer.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// Unwrap lets http.ResponseController reach the connection.
func (rec *recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (rec *recorder) WriteHeader(status int) {
	if rec.status == 0 && status >= http.StatusOK {
		rec.status = status
	}
	rec.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (rec *recorder) Write(p []byte) (int, error) {
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	n, err := rec.ResponseWriter.Write(p)
	rec.bytes += int64(n)
	return n, err
}

// code is the status that the client saw.
func (rec *recorder) code() int {
	if rec.status == 0 {
		return http.StatusOK
	}
	return rec.status
}
