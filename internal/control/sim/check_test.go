package sim

import (
	"context"
	"slices"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// observe compares the row of id with the one that was last seen, and holds the
// change to the invariants. crashed says that the database crashed in between.
func (w *world) observe(op string, id sandbox.ID, crashed bool) {
	row, err := w.store.Get(context.Background(), id)
	gone := fault.Is(err, fault.NotFound)
	w.mu.Lock()
	defer w.mu.Unlock()
	rec := w.known[id]
	if rec == nil {
		if gone {
			return
		}
		rec = &record{id: id}
		w.known[id] = rec
		w.order = append(w.order, id)
	}
	name, was := w.nameLocked(string(id)), rec.last
	if gone {
		w.checkGone(op, name, rec, crashed)
		rec.last = nil
		return
	}
	if was == nil || was.State != row.State || was.Generation != row.Generation {
		w.noteLocked("%s: row %s is %s/%d %s", op, name, row.State, row.Generation, row.StopReason)
		if was != nil {
			w.counts["moves"]++
		}
	}
	if was != nil && !crashed {
		if was.State != row.State && !sandbox.CanMove(was.State, row.State) {
			w.violated("%s moved from %s to %s, which CanMove forbids", name, was.State, row.State)
		}
		if row.Generation < was.Generation {
			w.violated("%s fell from generation %d to %d", name, was.Generation, row.Generation)
		}
	}
	if was == nil || was.State != row.State {
		// The destruction of a paused sandbox needs no CPU and no memory, although
		// the store counts its row until it is over.
		rec.idle = was != nil && was.State == sandbox.Paused && row.State == sandbox.Stopping
	}
	rec.last = &row
	w.checkRecord(name, rec)
	w.checkCapacity()
}

// checkGone: a row goes because it ended long ago, or because it was lost before
// anybody was told of it.
func (w *world) checkGone(op, name string, rec *record, crashed bool) {
	if rec.last == nil {
		return
	}
	w.noteLocked("%s: row %s is gone", op, name)
	if !crashed && !rec.last.State.Ended() {
		w.violated("the row of %s, which is %s, was deleted", name, rec.last.State)
	}
	if crashed && rec.acknowledged && !rec.last.State.Ended() {
		w.violated("a crash of the database lost %s, whose create was acknowledged", name)
	}
}

// checkRecord compares one row with the answers that clients got. The caller holds mu.
func (w *world) checkRecord(name string, rec *record) {
	if rec.last == nil {
		if rec.acknowledged && !rec.destroying && !rec.mayEnd {
			w.violated("%s, whose create was acknowledged, has no row", name)
		}
		return
	}
	state := rec.last.State
	over := state.Ended() || state == sandbox.Stopping
	if rec.acknowledged && !rec.destroying && !rec.mayEnd && over {
		w.violated("%s, whose create was acknowledged, is %s %s, and nobody ended it", name, state, rec.last.StopReason)
	}
	if rec.destroyed && !state.Ended() {
		w.violated("%s, which was destroyed, is %s", name, state)
	}
}

// checkCapacity adds up the capacity that rows hold. The caller holds mu.
func (w *world) checkCapacity() {
	used := make(map[string]control.Capacity)
	for _, rec := range w.known {
		if rec.last != nil && rec.last.State.Holds() && !rec.idle {
			c := used[rec.last.HostID]
			used[rec.last.HostID] = control.Capacity{VCPUs: c.VCPUs + rec.last.Spec.VCPUs, MemoryMB: c.MemoryMB + rec.last.Spec.MemoryMB}
		}
	}
	for id, c := range used {
		if total := w.store.Capacity(id); c.VCPUs > total.VCPUs || c.MemoryMB > total.MemoryMB {
			w.violated("rows on %s hold %+v of %+v", id, c, total)
		}
	}
}

// observeAll observes every known row after a statement that may change many.
func (w *world) observeAll(op string) {
	for _, id := range w.ids() {
		w.observe(op, id, false)
	}
}

// ids returns the sandboxes that had a row, in the order of their creation.
func (w *world) ids() []sandbox.ID {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.order)
}

// crash is a crash of the database.
func (w *world) crash(keep int) {
	w.statement.Lock()
	defer w.statement.Unlock()
	lost := w.store.Crash(keep)
	w.note("the database crashes and loses %d commits", len(lost))
	for _, id := range lost {
		w.observe("crash", id, true)
	}
}

// mark changes the model's record of a sandbox, and checks it.
func (w *world) mark(id sandbox.ID, change func(*record)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rec := w.known[id]
	if rec == nil {
		w.violated("%s was returned and never had a row", w.nameLocked(string(id)))
		return
	}
	change(rec)
	w.checkRecord(w.nameLocked(string(id)), rec)
}

// mayEnd says that a VM is ended from outside.
func (w *world) mayEnd(id sandbox.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if rec := w.known[id]; rec != nil {
		rec.mayEnd = true
	}
}

// checkConverged compares everything with the state in which it must be once faults have
// ended and the bound of time has passed.
func (w *world) checkConverged() {
	live := make(map[sandbox.ID]bool)
	for _, row := range w.store.Rows() {
		name := w.nameOf(string(row.ID))
		vm := w.vmOf(row.HostID, row.ID)
		switch {
		case row.State.Ended():
			if vm != nil {
				w.report("%s is %s and its host still has it, %s", name, row.State, vm.State)
			}
		case row.State == sandbox.Running:
			if vm == nil || vm.State != control.VMRunning || vm.Ref != row.Ref() {
				w.report("%s is running/%d and its host has %+v", name, row.Generation, vm)
			}
		case row.State == sandbox.Paused:
			if vm == nil || vm.State != control.VMPaused || vm.Ref.Generation > row.Generation {
				w.report("%s is paused/%d and its host has %+v", name, row.Generation, vm)
			}
		default:
			w.report("%s is still %s", name, row.State)
		}
		if live[row.ID] = !row.State.Ended(); live[row.ID] && vm != nil && !vm.Spec.Egress.Equal(row.Spec.Egress) {
			w.report("%s has the limits %+v and its host has %+v", name, row.Spec.Egress, vm.Spec.Egress)
		}
	}
	for _, h := range w.hosts {
		for id := range h.vms {
			if !live[id] {
				w.report("%s has a VM of %s, which has no live row", h.id, w.nameOf(string(id)))
			}
		}
	}
	w.checkSnapshots()
}

// checkSnapshots is checkConverged for snapshots.
func (w *world) checkSnapshots() {
	rows := make(map[sandbox.SnapshotID]bool)
	for _, h := range w.hosts {
		of, err := w.store.SnapshotsOf(context.Background(), h.id)
		if err != nil {
			w.report("snapshots of %s: %v", h.id, err)
		}
		for _, row := range of {
			rows[row.ID] = true
			_, have := h.snaps[row.ID]
			fits := row.Status == control.SnapshotReady && have || row.Status == control.SnapshotError && !have
			if row.Kind == control.KindFork || !fits {
				w.report("snapshot %s (%s) is %s, and on its host: %t", w.nameOf(string(row.ID)), row.Kind, row.Status, have)
			}
		}
		for id := range h.snaps {
			if !rows[id] {
				w.report("%s has snapshot %s, which has no row", h.id, w.nameOf(string(id)))
			}
		}
	}
}

// report records a violation that the final check has found.
func (w *world) report(format string, args ...any) { w.broken("not converged: "+format, args...) }

// broken records the violation of an invariant. The caller does not hold mu.
func (w *world) broken(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violated(format, args...)
}

// vmOf returns a host's VM of a sandbox, or nil.
func (w *world) vmOf(hostID string, id sandbox.ID) *control.ObservedSandbox {
	for _, h := range w.hosts {
		if vm := h.vms[id]; h.id == hostID && vm != nil {
			return &vm.observed
		}
	}
	return nil
}
