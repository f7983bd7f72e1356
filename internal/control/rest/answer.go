package rest

import (
	"context"
	"net/http"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// answerOne runs a use case that takes the id in the request's path, and answers
// with the JSON form of its result.
func answerOne[ID, Result, JSON any](s *server, w http.ResponseWriter, r *http.Request,
	idOf func(*http.Request) (ID, error), do func(context.Context, ID) (Result, error), jsonOf func(Result) JSON,
) {
	id, err := idOf(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	result, err := do(r.Context(), id)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, jsonOf(result))
}

// answerSandbox is answerOne for a use case that returns a sandbox.
func (s *server) answerSandbox(w http.ResponseWriter, r *http.Request,
	do func(context.Context, sandbox.ID) (control.Sandbox, error),
) {
	answerOne(s, w, r, idOf, do, sandboxOf)
}

// answerClocks is answerSandbox, but answers with the sandbox's clocks alone.
func (s *server) answerClocks(w http.ResponseWriter, r *http.Request,
	do func(context.Context, sandbox.ID) (control.Sandbox, error),
) {
	answerOne(s, w, r, idOf, do, clocksOf)
}

// answerSnapshot is answerOne for a use case that returns a snapshot.
func (s *server) answerSnapshot(w http.ResponseWriter, r *http.Request,
	do func(context.Context, sandbox.SnapshotID) (control.Snapshot, error),
) {
	answerOne(s, w, r, snapshotIDOf, do, snapshotOf)
}
