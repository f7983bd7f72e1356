package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// readyTimeout bounds /readyz, so that it answers within the usual time limit of
// a probe.
const readyTimeout = 5 * time.Second

func (s *server) health(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, types.Health{Status: "ok", Version: s.Version})
}

// ready answers 503 while requests cannot be served.
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

// collectGarbage only lists the garbage, unless dry_run is false.
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
	out := types.GarbageResponse{DryRun: dryRun, Items: make([]types.GarbageItem, len(items))}
	for i, g := range items {
		out.Items[i] = types.GarbageItem{HostID: g.HostID, Kind: g.Kind, ID: g.ID, Bytes: int64(g.Bytes), Reason: g.Reason}
		out.Bytes += int64(g.Bytes)
	}
	writeJSON(w, http.StatusOK, out)
}
