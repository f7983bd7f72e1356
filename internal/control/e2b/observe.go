package e2b

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/wrenn-dev/wrenn/internal/control/auth"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// request holds the facts of a request for its log line. It belongs to the request's
// goroutine.
type request struct {
	id string
	// principal is the id of the caller's API key, or empty.
	principal string
	err       error
}

type requestKey struct{}

// recordPrincipal passes the caller to the log line of the request.
func recordPrincipal(ctx context.Context) {
	who, known := auth.PrincipalOf(ctx)
	if q, ok := ctx.Value(requestKey{}).(*request); ok && known {
		q.principal = who.KeyID
	}
}

// recordError passes err to the log line of the request.
func recordError(ctx context.Context, err error) {
	if q, ok := ctx.Value(requestKey{}).(*request); ok {
		q.err = err
	}
}

// observed runs serve, turns a panic into a 500, and logs the request: its route, and
// never a path, a body, a query or a header.
func (s *server) observed(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	begin := time.Now()
	q := &request{id: rand.Text()}
	w.Header().Set("X-Request-Id", q.id)
	rec := &recorder{ResponseWriter: w}
	route := chi.NewRouteContext()
	ctx := context.WithValue(context.WithValue(r.Context(), requestKey{}, q), chi.RouteCtxKey, route)
	r = r.WithContext(ctx)
	defer func() {
		v := recover()
		abort := v == http.ErrAbortHandler || v != nil && rec.status != 0 //nolint:errorlint // the sentinel itself is thrown
		if v != nil && !abort {
			s.fail(rec, r, fault.Wrap(fmt.Errorf("panic: %v\n%s", v, debug.Stack()),
				fault.Internal, "internal", "an internal error; the request id finds it in the server's log"))
		}
		s.log(r, q, rec, route, time.Since(begin))
		if abort {
			panic(http.ErrAbortHandler)
		}
	}()
	serve(rec, r)
}

func (s *server) log(r *http.Request, q *request, rec *recorder, route *chi.Context, took time.Duration) {
	attrs := []slog.Attr{
		slog.String("dialect", "e2b"), slog.String("request", q.id), slog.String("method", r.Method),
		slog.Int("status", rec.status), slog.Duration("duration", took), slog.String("route", route.RoutePattern()),
	}
	if q.principal != "" {
		attrs = append(attrs, slog.String("principal", q.principal))
	}
	level := slog.LevelInfo
	if q.err != nil {
		attrs = append(attrs, slog.Any("error", q.err))
		if rec.status >= http.StatusInternalServerError && rec.status != http.StatusNotImplemented {
			level = slog.LevelError
		}
	}
	s.Log.LogAttrs(r.Context(), level, "request", attrs...)
}

// recorder records the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

// Unwrap lets http.ResponseController reach the connection.
func (rec *recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (rec *recorder) WriteHeader(status int) {
	if rec.status == 0 {
		rec.status = status
	}
	rec.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (rec *recorder) Write(p []byte) (int, error) {
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	return rec.ResponseWriter.Write(p)
}
