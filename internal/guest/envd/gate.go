package envd

import (
	"net/http"
	"time"

	"github.com/wrenn-dev/wrenn/internal/guest/agent"
)

const headerToken = "X-Access-Token"

// admit lets r into the current epoch. A request for a file may have a signature in
// place of the token, which its handler checks.
func (s *Server) admit(r *http.Request) (*agent.Epoch, error) {
	if r.URL.Path == "/files" && (r.Method == http.MethodGet || r.Method == http.MethodPost || r.Method == http.MethodHead) {
		return s.agent.AdmitSigned()
	}
	return s.agent.AdmitPublic(r.Header.Get(headerToken))
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
			writeFault(w, err)
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
