package rest

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// idOf returns the id in the request's path. Text that cannot be an id is NotFound.
func idOf(r *http.Request) (sandbox.ID, error) {
	return sandbox.ParseID(chi.URLParam(r, "id"))
}

func (s *server) createSandbox(w http.ResponseWriter, r *http.Request) {
	n, err := readCreate(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	sb, err := s.Sandboxes.Create(r.Context(), n)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Location", "/v1/sandboxes/"+string(sb.ID))
	writeJSON(w, http.StatusCreated, sandboxOf(sb))
}

func (s *server) listSandboxes(w http.ResponseWriter, r *http.Request) {
	filter, err := readFilter(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	list, next, err := s.Sandboxes.List(r.Context(), filter)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	linkNext(w, r, next)
	out := make([]listedJSON, len(list))
	for i, sb := range list {
		out[i] = listedJSON{Sandbox: sandboxOf(sb)}
	}
	writeJSON(w, http.StatusOK, out)
}

func (s *server) getSandbox(w http.ResponseWriter, r *http.Request) {
	s.answerSandbox(w, r, s.Sandboxes.Get)
}

func (s *server) pauseSandbox(w http.ResponseWriter, r *http.Request) {
	force, err := forceIn(r)
	if err == nil {
		err = readNoFields(w, r)
	}
	switch {
	case err != nil:
		s.fail(w, r, err)
	case force:
		s.answerSandbox(w, r, s.Sandboxes.ForcePause)
	default:
		s.answerSandbox(w, r, s.Sandboxes.Pause)
	}
}

func (s *server) resumeSandbox(w http.ResponseWriter, r *http.Request) {
	if err := readNoFields(w, r); err != nil {
		s.fail(w, r, err)
		return
	}
	s.answerSandbox(w, r, s.Sandboxes.Resume)
}

func (s *server) destroySandbox(w http.ResponseWriter, r *http.Request) {
	id, err := idOf(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if err := s.Sandboxes.Destroy(r.Context(), id); err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *server) listHosts(w http.ResponseWriter, r *http.Request) {
	hosts, err := s.Sandboxes.Hosts(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	out := make([]types.Host, len(hosts))
	for i, h := range hosts {
		out[i] = hostOf(h)
	}
	writeJSON(w, http.StatusOK, out)
}
