package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// readyTimeout bounds what /readyz may take, so that it answers within the
// patience of those who ask.
const readyTimeout = 5 * time.Second

// healthJSON is the schema Health.
type healthJSON struct {
	Status  string `json:"status"`
	Version string `json:"version"`
}

func (s *server) health(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, healthJSON{"ok", s.Version})
}

// ready answers 503 for whatever keeps requests from being served.
func (s *server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := s.Sandboxes.Ready(ctx); err != nil {
		f := fault.As(err)
		s.fail(w, r, withStatus(http.StatusServiceUnavailable, fault.Wrap(err, fault.NoCapacity, f.Reason, "%s", f.Public)))
		return
	}
	s.health(w, r)
}
