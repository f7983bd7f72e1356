package e2b

import (
	"net/http"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// snapshotJSON is the schema SnapshotInfo.
type snapshotJSON struct {
	ID    string   `json:"snapshotID"`
	Names []string `json:"names"`
}

func snapshotOf(snap control.Snapshot) snapshotJSON {
	out := snapshotJSON{ID: string(snap.ID), Names: []string{}}
	if snap.Name != "" {
		out.Names = append(out.Names, snap.Name)
	}
	return out
}

// createSnapshot copies a sandbox with its memory, or its files alone; the sandbox continues.
func (s *server) createSnapshot(w http.ResponseWriter, r *http.Request) error {
	row, err := s.live(r)
	if err != nil {
		return err
	}
	in := struct {
		Name   string `json:"name"`
		Memory *bool  `json:"memory"`
	}{}
	if err := readJSON(w, r, &in); err != nil {
		return err
	}
	snap, err := s.Sandboxes.CreateSnapshot(r.Context(), row.ID, control.NewSnapshot{Name: in.Name, DiskOnly: !isOn(in.Memory, true)})
	if fault.ReasonOf(err) == "disk_pause_unsupported" {
		return refuse(http.StatusConflict, wordDiskOnly, "%s", fault.As(err).Public)
	}
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, snapshotOf(snap))
	return nil
}

func (s *server) listSnapshots(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	limit, err := limitOf(q)
	if err != nil {
		return err
	}
	f := control.SnapshotFilter{Name: q.Get("name"), Limit: limit, Cursor: q.Get("nextToken")}
	out := []snapshotJSON{}
	if given := q.Get("sandboxID"); given != "" {
		if f.SandboxID, err = sandbox.ParseID(given); err != nil {
			writeJSON(w, http.StatusOK, out)
			return nil
		}
	}
	rows, next, err := s.Sandboxes.ListSnapshots(r.Context(), f)
	if err != nil {
		return err
	}
	for _, snap := range rows {
		if snap.Status == control.SnapshotReady {
			out = append(out, snapshotOf(snap))
		}
	}
	if next != "" {
		w.Header().Set(headerNext, next)
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}
