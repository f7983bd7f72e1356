package envd

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/guest/agent"
)

const (
	headerTimeout   = "Connect-Timeout-Ms"
	headerKeepalive = "Keepalive-Ping-Interval"

	maxKeepalive = time.Hour
)

type lifetimeKey struct{}

// keepLifetime moves the timeout header of streams into the context, where Connect
// does not see it: it is the lifetime of a command or a watch, which outlives the
// connection, and not a deadline of the call.
func keepLifetime(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/connect+") {
			lifetime, ok := parseLifetime(r.Header.Get(headerTimeout))
			if !ok {
				writeError(w, http.StatusBadRequest, headerTimeout+" must be a number of milliseconds of at most 10 digits")
				return
			}
			r = r.WithContext(context.WithValue(r.Context(), lifetimeKey{}, lifetime))
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
	d, _ := ctx.Value(lifetimeKey{}).(time.Duration)
	return d
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
