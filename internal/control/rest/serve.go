package rest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	// drainTimeout is the time in which requests may finish after ctx has
	// ended. Then they are cancelled, which kills their commands.
	drainTimeout = 10 * time.Second
	// abortTimeout is how long cancelled requests may take to answer.
	abortTimeout = 3 * time.Second

	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
)

// Serve answers requests on l until ctx ends. Then it closes l, lets requests
// in flight continue for drainTimeout, and cancels the remaining ones. It
// returns when no handler runs any more or abortTimeout has passed. It returns
// nil if ctx ended, and the listener's error otherwise. It owns l.
func Serve(ctx context.Context, l net.Listener, handler http.Handler, log *slog.Logger) error {
	// Requests must outlive ctx, so that they can be drained.
	base, abort := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abort(nil)
	requests := context.WithValue(context.WithValue(base, serverKey{}, base), stoppingKey{}, ctx)
	srv := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return requests },
		Protocols:         new(http.Protocols),
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(true) // where l speaks TLS
	srv.Protocols.SetUnencryptedHTTP2(true)
	failed := make(chan error, 1) // Serve's error; never closed
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		abort(errShuttingDown)
		return errors.Join(err, srv.Close())
	case <-ctx.Done():
	}
	err := shutdown(srv, abort, log)
	<-failed // http.ErrServerClosed, because of Shutdown
	return err
}

type stoppingKey struct{}

// untilStopping returns a context of r that ends when the server begins to stop or the
// caller hangs up, also where an Idempotency-Key lets r outlive its caller. It is for
// requests that would hold up the drain and that their caller can begin again.
func untilStopping(r *http.Request) (ctx context.Context, cancel context.CancelFunc) {
	ctx, end := context.WithCancelCause(r.Context())
	stops := []func() bool{}
	if stopping, ok := r.Context().Value(stoppingKey{}).(context.Context); ok {
		stops = append(stops, context.AfterFunc(stopping, func() { end(errShuttingDown) }))
	}
	if caller, ok := r.Context().Value(callerKey{}).(context.Context); ok {
		stops = append(stops, context.AfterFunc(caller, func() { end(context.Cause(caller)) }))
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		end(nil)
	}
}

// shutdown drains srv, then aborts the remaining requests.
func shutdown(srv *http.Server, abort context.CancelCauseFunc, log *slog.Logger) error {
	if drained(srv, drainTimeout) {
		return nil
	}
	log.Warn("cancelling the requests that are still under way", "after", drainTimeout)
	abort(errShuttingDown)
	if drained(srv, abortTimeout) {
		return nil
	}
	return srv.Close()
}

// drained reports whether all of srv's requests ended within d.
func drained(srv *http.Server, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), d) // a stop of its own: the caller's context has ended
	defer cancel()
	return srv.Shutdown(ctx) == nil
}
