package control

import (
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// snapshotAct is what has to be done about the row and the host's view of a
// snapshot that disagree.
type snapshotAct string

const (
	snapNone snapshotAct = "none"
	// snapReady: the host has it; the row may say so.
	snapReady snapshotAct = "ready"
	// snapFail: the host does not have it; the row is to say so.
	snapFail snapshotAct = "fail"
	// snapDelete: the host is to delete it, and then the row goes.
	snapDelete snapshotAct = "delete"
	// snapRemove: the host does not have it, and the row goes.
	snapRemove snapshotAct = "remove"
)

// settleSnapshot compares what should be with what is. It is a pure function.
//
// row is nil when there is no row; view is nil when the host was asked and does
// not have the snapshot, or has deleted it. lasting says that the two have
// disagreed in this way for longer than any operation that might explain it.
func settleSnapshot(row *Snapshot, view *SnapshotView, lasting bool) snapshotAct {
	switch {
	case row == nil:
		return when(view != nil && lasting, snapDelete)
	case row.Status == SnapshotDeleting:
		if view == nil {
			return snapRemove
		}
		return snapDelete
	case row.Kind == KindFork:
		// It lives as long as the fork. One that is older was left behind.
		if view == nil {
			return when(lasting, snapRemove)
		}
		return when(lasting, snapDelete)
	case view == nil:
		return when(lasting && row.Status != SnapshotError, snapFail)
	case row.Status == SnapshotCreating:
		return snapReady
	case row.Status == SnapshotError:
		return snapReady // it was only away, as after a restore of the host's disk
	default:
		return snapNone
	}
}

func when(ok bool, act snapshotAct) snapshotAct {
	if ok {
		return act
	}
	return snapNone
}

// snapshotPair is a snapshot as the database and as its host know it. Either
// may be nil, not both.
type snapshotPair struct {
	row  *Snapshot
	view *SnapshotView
}

func (p snapshotPair) id() sandbox.SnapshotID {
	if p.row != nil {
		return p.row.ID
	}
	return p.view.ID
}

// snapshotDispute is one way in which row and host disagree about a snapshot.
type snapshotDispute struct {
	id     sandbox.SnapshotID
	status SnapshotStatus // empty without a row
	there  bool
}

// snapshotDisputes remembers since when rows and hosts disagree about
// snapshots, as disputes does for sandboxes. One goroutine uses it.
type snapshotDisputes struct {
	// grace is for what one command explains, fork for what a fork does.
	grace, fork time.Duration
	since       map[snapshotDispute]time.Time
}

// next takes a pass's pairs and reports for each if it has been in dispute for
// long enough.
func (d *snapshotDisputes) next(pairs []snapshotPair, now time.Time) []bool {
	since := make(map[snapshotDispute]time.Time)
	lasting := make([]bool, len(pairs))
	for i, p := range pairs {
		if settleSnapshot(p.row, p.view, true) == snapNone {
			continue
		}
		key, grace := snapshotDispute{id: p.id(), there: p.view != nil}, d.grace
		if p.row != nil {
			key.status = p.row.Status
			if p.row.Kind == KindFork {
				grace = d.fork
			}
		}
		first, ok := d.since[key]
		if !ok {
			first = now
		}
		since[key] = first
		lasting[i] = now.Sub(first) >= grace
	}
	d.since = since
	return lasting
}
