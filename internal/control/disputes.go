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
	sandboxes *disputes
	snapshots *snapshotDisputes
}

// newOpenDisputes returns none yet. What a fork explains may take as long as a
// fork.
func newOpenDisputes(cfg Config) *openDisputes {
	return &openDisputes{
		sandboxes: newDisputes(cfg.Grace),
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
	grace time.Duration
	since map[dispute]time.Time
}

func newDisputes(grace time.Duration) *disputes { return &disputes{grace: grace} }

// next takes a pass's pairs and reports for each if it has been in dispute for
// the grace period.
func (d *disputes) next(pairs []pair, now time.Time) []bool {
	since := make(map[dispute]time.Time)
	lasting := make([]bool, len(pairs))
	for i, p := range pairs {
		if decide(p.row, p.view).act == actNone {
			continue
		}
		key := dispute{p.id(), p.rowState(), p.viewState()}
		first, ok := d.since[key]
		if !ok {
			first = now
		}
		since[key] = first
		lasting[i] = now.Sub(first) >= d.grace
	}
	d.since = since
	return lasting
}

// due returns how long it is until the next grace period ends; zero if none is
// running. One that has ended already is left to the regular interval.
func (d *disputes) due(now time.Time) time.Duration {
	var next time.Duration
	for _, first := range d.since {
		left := d.grace - now.Sub(first)
		if left > 0 && (next == 0 || left < next) {
			next = left
		}
	}
	return next
}
