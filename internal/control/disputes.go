package control

import (
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// dispute is one way in which row and host disagree about a sandbox.
type dispute struct {
	id        sandbox.ID
	row, view string
}

// openDisputes are all that a pass remembers between two runs.
type openDisputes struct {
	born      time.Time
	sandboxes *disputes
	snapshots *snapshotDisputes
}

// newOpenDisputes returns none yet. The snapshot of a fork may be needed as long
// as a fork takes; its children are asked for once that has been taken.
func newOpenDisputes(cfg Config) *openDisputes {
	return &openDisputes{
		born:      time.Now(),
		sandboxes: newDisputes(cfg.Grace, 2*cfg.Grace),
		snapshots: &snapshotDisputes{grace: cfg.Grace, fork: cfg.ForkTimeout + cfg.Grace},
	}
}

// disputes remembers since when row and host disagree, so that what may be an
// operation under way is left alone for the grace period. It is kept in memory
// and measured with one clock on purpose: a restart or a clock set wrong makes
// the reconciler more patient, never less.
//
// Invariants: a dispute is in since only while every pass has seen it, in the
// same states and generations. One goroutine uses it.
type disputes struct {
	// grace is for what one command explains, fork for a child of a fork, which
	// waits for the snapshot.
	grace, fork time.Duration
	since       map[dispute]period
}

// period is since when a dispute has been seen, and how long it is left alone.
type period struct {
	first time.Time
	grace time.Duration
}

// left is how much of the grace is left; it is over at zero.
func (p period) left(now time.Time) time.Duration { return p.grace - now.Sub(p.first) }

func newDisputes(grace, fork time.Duration) *disputes { return &disputes{grace: grace, fork: fork} }

// next takes a pass's pairs and reports for each if it has been in dispute for
// its grace.
func (d *disputes) next(pairs []pair, now time.Time) []bool {
	since := make(map[dispute]period)
	lasting := make([]bool, len(pairs))
	for i, p := range pairs {
		if decide(p.row, p.view).act == actNone {
			continue
		}
		key := dispute{p.id(), p.rowState(), p.viewState()}
		seen, ok := d.since[key]
		if !ok {
			seen = period{first: now, grace: d.graceOf(p)}
		}
		since[key] = seen
		lasting[i] = seen.left(now) <= 0
	}
	d.since = since
	return lasting
}

// graceOf returns how long p is left alone. The children of a fork have their
// rows before there is a snapshot to make them from.
func (d *disputes) graceOf(p pair) time.Duration {
	if p.view == nil && p.row.State == sandbox.Pending && p.row.ParentID != "" {
		return d.fork
	}
	return d.grace
}

// due returns how long it is until the next grace ends; zero if none is
// running. One that has ended already is left to the regular interval.
func (d *disputes) due(now time.Time) time.Duration {
	var next time.Duration
	for _, seen := range d.since {
		left := seen.left(now)
		if left > 0 && (next == 0 || left < next) {
			next = left
		}
	}
	return next
}
