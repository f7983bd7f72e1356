package e2b

import (
	"context"
	"net/http"

	"github.com/wrenn-dev/wrenn/internal/control"
)

// forkResult is the schema SandboxForkResult. One of the two is set.
type forkResult struct {
	Sandbox *sandboxJSON `json:"sandbox,omitempty"`
	Error   *errorJSON   `json:"error,omitempty"`
}

// forkSandbox copies a running sandbox.
func (s *server) forkSandbox(w http.ResponseWriter, r *http.Request) error {
	row, err := s.live(r)
	if err != nil {
		return err
	}
	in := struct {
		Timeout *int `json:"timeout"`
		Count   *int `json:"count"`
	}{}
	if err := readJSON(w, r, &in); err != nil {
		return err
	}
	f := control.Fork{Count: 1}
	if in.Count != nil {
		f.Count = *in.Count
	}
	switch {
	case f.Count < 1:
		return invalid("Count must be at least 1")
	case f.Count > control.MaxForks:
		return invalid("Count must be at most %d", control.MaxForks)
	case stateOf(row) != stateRunning:
		return refuse(http.StatusConflict, "", "Sandbox '%s' is paused and cannot be forked; resume it first", row.ID)
	}
	lifetime := initialLifetime(row)
	if in.Timeout != nil {
		if *in.Timeout <= 0 {
			return invalid("timeout must be at least 1 second")
		}
		if lifetime, err = seconds(*in.Timeout); err != nil {
			return err
		}
	}
	f.Clocks.Lifetime = &lifetime
	forked, err := s.Sandboxes.Fork(r.Context(), row.ID, f)
	if err != nil && len(forked.Failed) == 0 {
		return err
	}
	writeJSON(w, http.StatusCreated, s.resultsOf(r.Context(), forked))
	return nil
}

// resultsOf returns an element for each copy, the running ones first.
func (s *server) resultsOf(ctx context.Context, forked control.Forked) []forkResult {
	out := make([]forkResult, 0, len(forked.Sandboxes)+len(forked.Failed))
	for _, row := range forked.Sandboxes {
		made := s.sandboxOf(row)
		out = append(out, forkResult{Sandbox: &made})
	}
	for _, failed := range forked.Failed {
		why := errorOf(ctx, failed.Err)
		out = append(out, forkResult{Error: &why})
	}
	return out
}
