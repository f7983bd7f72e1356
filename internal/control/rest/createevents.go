package rest

import (
	"net/http"
	"time"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
)

// createTelling creates a sandbox and tells the caller how far the create is, as events. A
// create that fails before the first of them has the ordinary answer. A later failure frees or
// keeps an Idempotency-Key as the ordinary answer does.
func (s *server) createTelling(w http.ResponseWriter, r *http.Request, n control.NewSandbox) {
	events := s.newEvents(w)
	defer events.pace.end()
	stop := events.keepAlive()
	began, told := time.Now(), false
	n.Progress = func(stage control.CreateStage) {
		told = true
		// The last event finds out that the caller has gone; the create goes on.
		_ = events.event("progress", -1, types.CreateProgress{Stage: types.CreateStage(stage), ElapsedMS: time.Since(began).Milliseconds()})
	}
	sb, err := s.Sandboxes.Create(r.Context(), n)
	stop()
	switch {
	case err == nil:
		if !told {
			w.Header().Set("Location", "/v1/sandboxes/"+string(sb.ID))
		}
		_ = events.event("sandbox", -1, sandboxOf(sb)) // an error means that the caller has gone
	case told:
		err = withCause(r.Context(), err)
		recordError(r.Context(), err)
		requestOf(r.Context()).failedAs = statusOf(err)
		_ = events.event("error", -1, errorJSON{errorBodyOf(err)})
	default:
		s.fail(w, r, err)
	}
}
