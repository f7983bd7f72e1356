package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// readyTimeout bounds what /readyz may take, so that it answers within the
// patience of those who ask.
const readyTimeout = 5 * time.Second

// healthJSON is the schema Health.
type healthJSON struct {
	Status  string `json:"status"`
	Version string `json:"version"`
}

func (s *server) health(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, healthJSON{"ok", s.Version})
}

// ready answers 503 for whatever keeps requests from being served.
func (s *server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := s.Sandboxes.Ready(ctx); err != nil {
		f := fault.As(err)
		s.fail(w, r, withStatus(http.StatusServiceUnavailable, fault.Wrap(err, fault.NoCapacity, f.Reason, "%s", f.Public)))
		return
	}
	s.health(w, r)
}

// garbageJSON is the schema GarbageResponse.
type garbageJSON struct {
	DryRun bool              `json:"dry_run"`
	Bytes  uint64            `json:"bytes"`
	Items  []garbageItemJSON `json:"items"`
}

type garbageItemJSON struct {
	HostID string `json:"host_id"`
	Kind   string `json:"kind"`
	ID     string `json:"id"`
	Bytes  uint64 `json:"bytes"`
	Reason string `json:"reason"`
}

// collectGarbage only tells what could go, unless a dry run is not wanted.
func (s *server) collectGarbage(w http.ResponseWriter, r *http.Request) {
	dryRun := true
	if err := readOptionalJSON(w, r, fields{"dry_run": &dryRun}); err != nil {
		s.fail(w, r, err)
		return
	}
	mode := control.GarbageRemove
	if dryRun {
		mode = control.GarbageList
	}
	items, err := s.Sandboxes.CollectGarbage(r.Context(), mode)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	out := garbageJSON{DryRun: dryRun, Items: make([]garbageItemJSON, len(items))}
	for i, g := range items {
		out.Items[i] = garbageItemJSON{HostID: g.HostID, Kind: g.Kind, ID: g.ID, Bytes: g.Bytes, Reason: g.Reason}
		out.Bytes += g.Bytes
	}
	writeJSON(w, http.StatusOK, out)
}
