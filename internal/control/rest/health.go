package rest

import (
	"net/http"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// guestHealthJSON is the schema GuestHealth.
type guestHealthJSON struct {
	State  string     `json:"state"`
	Since  *time.Time `json:"since"`
	Forced bool       `json:"forced"`
}

// healthOf returns nil, which is null in JSON, where the health is not known.
func healthOf(h sandbox.Health) *guestHealthJSON {
	if h.State == "" {
		return nil
	}
	out := &guestHealthJSON{State: string(h.State), Forced: h.Forced}
	if !h.Since.IsZero() {
		out.Since = utc(&h.Since)
	}
	return out
}

// forceIn reads the query parameter force of a pause.
func forceIn(r *http.Request) (bool, error) {
	q, err := readQuery(r)
	if err != nil {
		return false, err
	}
	text, err := one(q, "force")
	switch {
	case err != nil:
		return false, err
	case !q.Has("force") || text == "false":
		return false, nil
	case text == "true":
		return true, nil
	}
	return false, fault.New(fault.Invalid, "invalid_force", "force must be true or false")
}
