package rest

import (
	"context"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func snapshotOf(s control.Snapshot) types.Snapshot {
	metadata := s.Metadata
	if metadata == nil {
		metadata = map[string]string{}
	}
	return types.Snapshot{
		ID: string(s.ID), Name: s.Name, SandboxID: string(s.Of.ID), HostID: s.HostID,
		Template: s.Spec.TemplateName(), VCPUs: s.Spec.VCPUs, MemoryMB: s.Spec.MemoryMB, DiskMB: s.Spec.DiskMB,
		Status: string(s.Status), Bytes: int64(s.Bytes), Users: s.Users, PauseWindowMS: millis(s.PauseWindow),
		TemplateName: nullable(s.TemplateName), CreatedAt: s.CreatedAt.UTC(), Metadata: metadata, Memory: !s.DiskOnly,
	}
}

// snapshotIDOf returns the id in the request's path. Text that cannot be an id is
// NotFound.
func snapshotIDOf(r *http.Request) (sandbox.SnapshotID, error) {
	return sandbox.ParseSnapshotID(chi.URLParam(r, "id"))
}

func (s *server) createSnapshot(w http.ResponseWriter, r *http.Request) {
	id, err := idOf(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	var n control.NewSnapshot
	memory := true
	err = readOptionalJSON(w, r, fields{"name": &n.Name, "metadata": &n.Metadata, "force": &n.Force, "memory": &memory})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	n.DiskOnly = !memory
	snap, err := s.Sandboxes.CreateSnapshot(r.Context(), id, n)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Location", "/v1/snapshots/"+string(snap.ID))
	writeJSON(w, http.StatusCreated, snapshotOf(snap))
}

func (s *server) listSnapshots(w http.ResponseWriter, r *http.Request) {
	f, err := readSnapshotFilter(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.answerSnapshots(w, r, f, func() error { return nil })
}

func (s *server) listSandboxSnapshots(w http.ResponseWriter, r *http.Request) {
	id, err := idOf(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	q, err := readQuery(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	f := control.SnapshotFilter{SandboxID: id}
	if f.Limit, f.Cursor, err = pageIn(q); err != nil {
		s.fail(w, r, err)
		return
	}
	s.answerSnapshots(w, r, f, func() error {
		_, err := s.Sandboxes.Get(r.Context(), id)
		return err
	})
}

// answerSnapshots sends a list of snapshots. empty is the fault if there is none
// at all.
func (s *server) answerSnapshots(w http.ResponseWriter, r *http.Request, f control.SnapshotFilter, empty func() error) {
	list, next, err := s.Sandboxes.ListSnapshots(r.Context(), f)
	if err == nil && len(list) == 0 {
		err = empty()
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	linkNext(w, r, next)
	out := make([]types.Snapshot, len(list))
	for i, snap := range list {
		out[i] = snapshotOf(snap)
	}
	writeJSON(w, http.StatusOK, out)
}

func (s *server) getSnapshot(w http.ResponseWriter, r *http.Request) {
	s.answerSnapshot(w, r, s.Sandboxes.GetSnapshot)
}

func (s *server) setTemplate(w http.ResponseWriter, r *http.Request) {
	s.answerSnapshot(w, r, func(ctx context.Context, id sandbox.SnapshotID) (control.Snapshot, error) {
		var name string
		if err := readJSON(w, r, fields{"name": &name}); err != nil {
			return control.Snapshot{}, err
		}
		if name == "" { // further in, it would take the name away
			return control.Snapshot{}, fault.New(fault.Invalid, "invalid_template", "name is required")
		}
		return s.Sandboxes.SetTemplate(ctx, id, name)
	})
}

func (s *server) unsetTemplate(w http.ResponseWriter, r *http.Request) {
	s.answerNothing(w, r, func(id sandbox.SnapshotID) error {
		_, err := s.Sandboxes.SetTemplate(r.Context(), id, "")
		return err
	})
}

func (s *server) deleteSnapshot(w http.ResponseWriter, r *http.Request) {
	s.answerNothing(w, r, func(id sandbox.SnapshotID) error { return s.Sandboxes.DeleteSnapshot(r.Context(), id) })
}

// answerNothing runs one use case that takes an id and has no result.
func (s *server) answerNothing(w http.ResponseWriter, r *http.Request, do func(sandbox.SnapshotID) error) {
	id, err := snapshotIDOf(r)
	if err == nil {
		err = do(id)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
