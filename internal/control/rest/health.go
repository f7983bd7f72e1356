package rest

import (
	"net/http"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// healthOf returns nil, which is null in JSON, if the health is not known.
func healthOf(h sandbox.Health) *types.GuestHealth {
	if h.State == "" {
		return nil
	}
	out := &types.GuestHealth{State: string(h.State), Forced: h.Forced}
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
