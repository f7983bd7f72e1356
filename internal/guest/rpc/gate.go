package rpc

import (
	"context"
	"net/http"
	"time"

	"github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1/guestv1connect"
)

const headerToken = "X-Access-Token"

// claim is what a call asks to be admitted as.
type claim int

const (
	// claimCall needs the token.
	claimCall claim = iota
	// claimFiles is let in without a token, because a signature may stand for
	// it: the handler looks.
	claimFiles
	// claimConfigure is let in while the guest is sealed.
	claimConfigure
	claimQuiesce
	// claimRelease is let in while the guest is neither open nor sealed: it
	// looks at the token itself.
	claimRelease
)

// admit lets a call with token into the current epoch, which the caller must
// leave. It returns no epoch for Configure, Quiesce and Release: these begin or
// end the epoch themselves and must not wait for themselves.
func (s *Server) admit(c claim, token string) (*epoch, error) {
	if c == claimRelease {
		return nil, nil
	}
	e := s.state.enter()
	switch {
	case e == nil && c == claimConfigure:
		return nil, nil
	case e == nil:
		return nil, errSealed
	case c != claimFiles && !e.admits(token):
		e.leave()
		return nil, errAccess("the access token is missing or wrong")
	case c == claimConfigure || c == claimQuiesce:
		e.leave()
		return nil, nil
	}
	return e, nil
}

// claimOf says what an HTTP request is.
func claimOf(r *http.Request) claim {
	switch r.URL.Path {
	case guestv1connect.GuestConfigureProcedure:
		return claimConfigure
	case guestv1connect.GuestQuiesceProcedure:
		return claimQuiesce
	case guestv1connect.GuestReleaseProcedure:
		return claimRelease
	case "/files":
		if r.Method == http.MethodGet || r.Method == http.MethodPost || r.Method == http.MethodHead {
			return claimFiles
		}
	}
	return claimCall
}

// gate admits HTTP requests: CORS, the sealed state and the access token.
// Handlers behind it find their epoch in the context.
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
		e, err := s.admit(claimOf(r), r.Header.Get(headerToken))
		if err != nil {
			writeFault(w, err)
			return
		}
		if e == nil {
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
