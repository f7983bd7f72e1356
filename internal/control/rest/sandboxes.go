package rest

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/fault"
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
	if wantsEvents(r) {
		s.createTelling(w, r, n)
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
	memory := true
	if err == nil {
		memory, err = readMemory(w, r)
	}
	switch {
	case err != nil:
		s.fail(w, r, err)
	case force && !memory:
		s.fail(w, r, fault.New(fault.Invalid, "invalid_force",
			"a pause without memory needs the guest's help: leave out force, or memory"))
	case !memory:
		s.answerSandbox(w, r, s.Sandboxes.PauseDisk)
	case force:
		s.answerSandbox(w, r, s.Sandboxes.ForcePause)
	default:
		s.answerSandbox(w, r, s.Sandboxes.Pause)
	}
}

func (s *server) resumeSandbox(w http.ResponseWriter, r *http.Request) {
	memory, err := readMemory(w, r)
	switch {
	case err != nil:
		s.fail(w, r, err)
	case !memory:
		s.answerSandbox(w, r, s.Sandboxes.Reboot)
	default:
		s.answerSandbox(w, r, s.Sandboxes.Resume)
	}
}

// readMemory reads the body of a pause or a resume, which may be missing. memory is true
// unless the body says otherwise.
func readMemory(w http.ResponseWriter, r *http.Request) (memory bool, err error) {
	memory = true
	if r.ContentLength == 0 {
		return memory, nil
	}
	err = readOptionalJSON(w, r, fields{"memory": &memory})
	return memory, err
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
