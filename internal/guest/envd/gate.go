package envd

import (
	"net/http"
	"time"

	"github.com/wrenn-dev/wrenn/internal/guest/agent"
)

const headerToken = "X-Access-Token"

// Limits of answers to callers who are not admitted. Such a caller may let its answer
// wait without end, and could hold the memory of any number of requests by that.
const (
	// refusalTimeLimit is how long the peer may take to receive a refusal.
	refusalTimeLimit = 5 * time.Second
	// maxRefusals is the number of refusals that may wait for their peers at once.
	maxRefusals = 64
)

// admit lets r into the current epoch. A request for a file may have a signature in
// place of the token. On error r is in no epoch, so that its answer delays none.
func (s *Server) admit(r *http.Request) (*agent.Epoch, error) {
	operation := fileOperation(r)
	if operation == "" {
		return s.agent.AdmitPublic(r.Header.Get(headerToken))
	}
	e, err := s.agent.AdmitSigned()
	if err != nil {
		return nil, err
	}
	if err := checkFileAccess(&e.Settings, r.Header, r.URL.Query(), operation, time.Now()); err != nil {
		e.Leave()
		return nil, err
	}
	return e, nil
}

// refuse answers a request that is not admitted. Beyond maxRefusals it aborts the request.
func (s *Server) refuse(w http.ResponseWriter, err error) {
	select {
	case s.refusals <- struct{}{}:
		defer func() { <-s.refusals }()
	default:
		panic(http.ErrAbortHandler)
	}
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(refusalTimeLimit))
	writeFault(w, err)
	_ = rc.Flush()
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
		e, err := s.admit(r)
		if err != nil {
			s.refuse(w, err)
			return
		}
		defer e.Leave()
		serveIn(e, next, w, r)
	})
}

// serveIn serves r until the epoch ends. Then its context ends, and reads and
// writes that wait for the peer fail at once.
func serveIn(e *agent.Epoch, next http.Handler, w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Time{}) // that of a refusal before it on the connection
	ctx, release := e.Bind(r.Context(), func() {
		_ = control.SetReadDeadline(time.Unix(1, 0))
		_ = control.SetWriteDeadline(time.Now().Add(agent.CutOffGrace))
	})
	defer release()
	next.ServeHTTP(w, r.WithContext(ctx))
}

// allowOrigins lets any web page call: the token protects the sandbox, and no
// cookie grants access.
func allowOrigins(h http.Header) {
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "*, Authorization")
	h.Set("Access-Control-Expose-Headers", "*")
	h.Set("Access-Control-Max-Age", "7200")
}
