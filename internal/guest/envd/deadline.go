package envd

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/agent"
)

const (
	headerTimeout   = "Connect-Timeout-Ms"
	headerKeepalive = "Keepalive-Ping-Interval"

	maxKeepalive = time.Hour
)

type lifetimeKey struct{}

// lifetime is the timeout of a stream, 0 for none, with the means to interrupt its reads.
type lifetime struct {
	time.Duration
	control *http.ResponseController
}

// keepLifetime moves the timeout header of streams into the context, where Connect
// does not see it: it is the lifetime of a command or a watch, which outlives the
// connection, and not a deadline of the call.
func keepLifetime(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/connect+") {
			limit, ok := parseLifetime(r.Header.Get(headerTimeout))
			if !ok {
				writeError(w, http.StatusBadRequest, headerTimeout+" must be a number of milliseconds of at most 10 digits")
				return
			}
			r = r.WithContext(context.WithValue(r.Context(), lifetimeKey{}, lifetime{limit, http.NewResponseController(w)}))
			r.Header.Del(headerTimeout)
		}
		next.ServeHTTP(w, r)
	})
}

// parseLifetime parses the header as the Connect protocol defines it. Absent and
// zero mean no limit.
func parseLifetime(v string) (time.Duration, bool) {
	if v == "" {
		return 0, true
	}
	ms, err := strconv.ParseUint(v, 10, 64)
	if err != nil || len(v) > 10 {
		return 0, false
	}
	return time.Duration(ms) * time.Millisecond, true
}

func lifetimeOf(ctx context.Context) time.Duration {
	l, _ := ctx.Value(lifetimeKey{}).(lifetime)
	return l.Duration
}

// errStreamExpired ends a stream of input at the end of its lifetime.
var errStreamExpired = fault.New(fault.Timeout, "connect_timeout", "the stream was open longer than its timeout; the command continues")

// inputContext returns a context that ends with errStreamExpired as its cause at the end
// of the lifetime in ctx. Then a read that waits for the client fails too.
func inputContext(ctx context.Context) (context.Context, func()) {
	d := lifetimeOf(ctx)
	if d == 0 {
		return ctx, func() {}
	}
	limited, cancel := context.WithTimeoutCause(ctx, d, errStreamExpired)
	stop := context.AfterFunc(limited, func() { endReading(ctx) })
	return limited, func() { stop(); cancel() }
}

// endReading ends the request of a stream. Its answer would otherwise wait for the
// client's end of the stream, which may be hours away.
func endReading(ctx context.Context) {
	if l, ok := ctx.Value(lifetimeKey{}).(lifetime); ok {
		_ = l.control.SetReadDeadline(time.Unix(1, 0))
	}
}

// keepaliveOf returns how long a stream may be silent, from the header in
// seconds.
func keepaliveOf(h http.Header) time.Duration {
	sec, err := strconv.ParseUint(h.Get(headerKeepalive), 10, 16)
	if err != nil || sec == 0 {
		return agent.DefaultKeepalive
	}
	return min(time.Duration(sec)*time.Second, maxKeepalive)
}

// expiry returns a channel that fires after d, or never for zero, and a
// function that frees it.
func expiry(d time.Duration) (<-chan time.Time, func()) {
	if d <= 0 {
		return nil, func() {}
	}
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}
