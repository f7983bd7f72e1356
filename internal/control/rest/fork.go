package rest

import (
	"net/http"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
)

func (s *server) forkSandbox(w http.ResponseWriter, r *http.Request) {
	id, err := idOf(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	f, err := readFork(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	forked, err := s.Sandboxes.Fork(r.Context(), id, f)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	out := types.ForkResponse{
		Sandboxes: make([]types.Sandbox, len(forked.Sandboxes)), Failed: make([]types.FailedFork, len(forked.Failed)),
		PauseWindowMS: millis(forked.PauseWindow),
	}
	for i, sb := range forked.Sandboxes {
		out.Sandboxes[i] = sandboxOf(sb)
	}
	for i, f := range forked.Failed {
		body := errorBodyOf(withCause(r.Context(), f.Err))
		out.Failed[i] = types.FailedFork{ID: string(f.ID), Code: body.Code, Message: body.Message}
	}
	writeJSON(w, http.StatusCreated, out)
}

// readFork decodes a ForkRequest.
func readFork(w http.ResponseWriter, r *http.Request) (control.Fork, error) {
	f := control.Fork{Count: 1}
	var clocks clockFields
	err := readOptionalJSON(w, r, fields{
		"count":        &f.Count,
		"env":          &f.Env,
		"metadata":     &f.Metadata,
		"timeout_sec":  &clocks.idle,
		"lifetime_sec": &clocks.lifetime,
		"on_timeout":   &clocks.onTimeout,
		"auto_resume":  &clocks.autoResume,
		"force":        &f.Force,
	})
	if err != nil {
		return f, err
	}
	f.Clocks, err = clocks.request()
	return f, err
}
