package reconcile

import (
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Action selects how the caller resolves a disagreement of row and observed state.
type Action string

// The actions.
const (
	// None: row and observed state agree, or an operation in flight will end the disagreement.
	None Action = "none"
	// Move: change the row's state to Decision.To by compare-and-set.
	Move Action = "move"
	// Delete: have the host delete the object that the observed state describes. A
	// snapshot's row is removed afterwards.
	Delete Action = "delete"
	// Pause: have the host pause the VM that the observed state describes.
	Pause Action = "pause"
	// Remove: delete the row.
	Remove Action = "remove"
	// Report: no rule resolves the disagreement; write it to the log.
	Report Action = "report"
)

// Decision is the result of the rules for one object. S is the type of the
// object's states.
type Decision[S ~string] struct {
	Action Action
	// To, Reason and Message belong to Move. Reason and Message may be empty.
	To      S
	Reason  sandbox.StopReason
	Message string
}

// Class selects the grace period of a disagreement.
type Class int

// The classes.
const (
	// Command: one command in flight can explain the disagreement.
	Command Class = iota
	// Fork: a whole fork in flight can explain it.
	Fork
)

// Graces are the grace periods, by class.
type Graces struct{ Command, Fork time.Duration }

func (g Graces) of(c Class) time.Duration {
	if c == Fork {
		return g.Fork
	}
	return g.Command
}

// Rules is the decision table of one kind of object. R describes a row, V an observed state
// and S the states of a row. The functions are pure and accept nil for a missing
// row or observed state, but not for both.
type Rules[R, V comparable, S ~string] struct {
	// resolve returns the decision for a disagreement that nothing else ends.
	resolve func(row *R, observed *V) Decision[S]
	// definite reports whether no operation in flight can explain the
	// disagreement, so that it needs no grace period.
	definite func(row *R, observed *V) bool
	// class selects the grace period.
	class func(row *R, observed *V) Class
}

// Decide compares a row with an observed state. certain says that the two have disagreed
// for the grace period, or that no operation is in flight.
func (r Rules[R, V, S]) Decide(row *R, observed *V, certain bool) Decision[S] {
	d := r.resolve(row, observed)
	if d.Action == None || certain || r.definite(row, observed) {
		return d
	}
	return Decision[S]{Action: None}
}

// Agree reports whether row and observed state need no decision, however long they stay
// as they are.
func (r Rules[R, V, S]) Agree(row *R, observed *V) bool {
	return r.resolve(row, observed).Action == None
}

// Pair is one object as the database and as its host know it.
type Pair[R, V comparable] struct {
	ID string
	// Row and View may be nil, but not both.
	Row      *R
	Observed *V
	// Certain says that no operation on the object is in flight.
	Certain bool
}

// disagreement identifies one way in which row and observed state of an object disagree.
type disagreement[R, V comparable] struct {
	id          string
	row         R
	observed    V
	hasRow      bool
	hasObserved bool
}

// period is the time since which a disagreement has been seen, and its grace.
type period struct {
	first time.Time
	grace time.Duration
}

// left returns the rest of the grace period. It is not positive once the period is over.
func (p period) left(now time.Time) time.Duration { return p.grace - now.Sub(p.first) }

// Machine applies Rules to the passes over one host. It remembers how long
// disagreements have lasted, in memory only: a restart or a clock that is set
// wrong makes it more patient, never less. One goroutine uses a Machine.
//
// Invariant: open holds a disagreement only while every pass has seen it with
// the same row and observed state.
type Machine[R, V comparable, S ~string] struct {
	rules  Rules[R, V, S]
	graces Graces
	open   map[disagreement[R, V]]period
}

// NewMachine returns a Machine that has seen no pass.
func NewMachine[R, V comparable, S ~string](rules Rules[R, V, S], graces Graces) *Machine[R, V, S] {
	return &Machine[R, V, S]{rules: rules, graces: graces}
}

// Step takes the pairs of one pass, made at now, and returns a decision for each.
func (m *Machine[R, V, S]) Step(now time.Time, pairs []Pair[R, V]) []Decision[S] {
	open := make(map[disagreement[R, V]]period)
	out := make([]Decision[S], len(pairs))
	for i, p := range pairs {
		lasting := false
		if !m.rules.Agree(p.Row, p.Observed) {
			key := keyOf(p)
			seen, ok := m.open[key]
			if !ok {
				seen = period{first: now, grace: m.graces.of(m.rules.class(p.Row, p.Observed))}
			}
			open[key] = seen
			lasting = seen.left(now) <= 0
		}
		out[i] = m.rules.Decide(p.Row, p.Observed, lasting || p.Certain)
	}
	m.open = open
	return out
}

// Due returns the time from now to the end of the next grace period, and zero if
// no grace period is running.
func (m *Machine[R, V, S]) Due(now time.Time) time.Duration {
	var next time.Duration
	for _, p := range m.open {
		if left := p.left(now); left > 0 && (next == 0 || left < next) {
			next = left
		}
	}
	return next
}

func keyOf[R, V comparable](p Pair[R, V]) disagreement[R, V] {
	key := disagreement[R, V]{id: p.ID, hasRow: p.Row != nil, hasObserved: p.Observed != nil}
	if p.Row != nil {
		key.row = *p.Row
	}
	if p.Observed != nil {
		key.observed = *p.Observed
	}
	return key
}
