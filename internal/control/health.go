package control

import (
	"sync"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// healths holds the last health that hosts reported of sandboxes. It is kept in
// memory: a health changes without a command, only the host knows it, and each
// event, each pass and each answer to a command brings it again.
type healths struct {
	mu sync.Mutex // protects the following
	of map[sandbox.ID]ObservedSandbox
}

func newHealths() *healths { return &healths{of: make(map[sandbox.ID]ObservedSandbox)} }

// note remembers the health in v. An observed state without one forgets it.
func (h *healths) note(v ObservedSandbox) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v.Health.State == "" {
		delete(h.of, v.Ref.ID)
		return
	}
	h.of[v.Ref.ID] = ObservedSandbox{Ref: v.Ref, State: v.State, Health: v.Health, DiskOnly: v.DiskOnly}
}

// notePairs is note for all sandboxes of a host. It forgets those that the host
// does not know.
func (h *healths) notePairs(pairs []pair) {
	for _, p := range pairs {
		if p.observed != nil {
			h.note(*p.observed)
		} else {
			h.note(ObservedSandbox{Ref: sandbox.Ref{ID: p.id()}})
		}
	}
}

// addTo returns row with its health, if the health is known for the row's present
// state. After a resume that failed, a paused row has a later generation than the
// host.
func (h *healths) addTo(row Sandbox) Sandbox {
	h.mu.Lock()
	known, ok := h.of[row.ID]
	h.mu.Unlock()
	paused := known.State == VMPaused
	switch {
	case !ok:
	case row.State == sandbox.Paused && paused && known.Ref.Generation <= row.Generation,
		(row.State == sandbox.Running || row.State == sandbox.Pausing) && !paused && known.Ref.Generation == row.Generation:
		row.Health, row.DiskOnly = known.Health, known.DiskOnly
	}
	return row
}
