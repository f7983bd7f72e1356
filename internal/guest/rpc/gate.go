package rpc

import (
	"context"
	"net/http"
	"time"

	"github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1/guestv1connect"
)

const headerToken = "X-Access-Token"

// gate admits requests: CORS, the sealed state and the access token. Handlers
// behind it find their epoch in the context. /files is let through without a
// token, because a signature may stand for it.
func (s *Server) gate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		allowOrigins(w.Header())
		switch {
		case r.Method == http.MethodOptions:
			w.WriteHeader(http.StatusNoContent)
			return
		case r.URL.Path == "/health" && (r.Method == http.MethodGet || r.Method == http.MethodHead):
			w.WriteHeader(http.StatusNoContent)
			return
		}
		if r.URL.Path == guestv1connect.GuestReleaseProcedure {
			next.ServeHTTP(w, r) // it ends what is neither sealed nor open, and checks the token itself
			return
		}
		e := s.state.enter()
		if e == nil {
			if r.URL.Path == guestv1connect.GuestConfigureProcedure {
				next.ServeHTTP(w, r)
				return
			}
			writeError(w, http.StatusServiceUnavailable, errSealed.Public)
			return
		}
		isFiles := r.URL.Path == "/files" && (r.Method == http.MethodGet || r.Method == http.MethodPost || r.Method == http.MethodHead)
		admitted := isFiles || e.admits(r.Header.Get(headerToken))
		if !admitted {
			e.leave()
			writeError(w, http.StatusUnauthorized, "the access token is missing or wrong")
			return
		}
		if r.URL.Path == guestv1connect.GuestConfigureProcedure || r.URL.Path == guestv1connect.GuestQuiesceProcedure {
			// These end the epoch themselves: they must not wait for themselves.
			e.leave()
			next.ServeHTTP(w, r)
			return
		}
		defer e.leave()
		serveIn(e, next, w, r)
	})
}

// serveIn serves r until the epoch ends. Then its context is cut off, and reads
// and writes that wait for the peer fail at once.
func serveIn(e *epoch, next http.Handler, w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancelCause(context.WithValue(r.Context(), epochKey{}, e))
	defer cancel(nil)
	control := http.NewResponseController(w)
	stop := context.AfterFunc(e.ctx, func() {
		cancel(context.Cause(e.ctx))
		_ = control.SetReadDeadline(time.Unix(1, 0))
		_ = control.SetWriteDeadline(time.Now().Add(sealGrace))
	})
	defer stop()
	next.ServeHTTP(w, r.WithContext(ctx))
}

// sealGrace is how long a request that is cut off may take to say so.
const sealGrace = 200 * time.Millisecond

// allowOrigins lets any web page call: the token is the protection, and no
// cookie is.
func allowOrigins(h http.Header) {
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "*, Authorization")
	h.Set("Access-Control-Expose-Headers", "*")
	h.Set("Access-Control-Max-Age", "7200")
}
