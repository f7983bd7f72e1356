package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// recorder collects the samples of one subject, and the failures of its parts. One
// goroutine owns it.
type recorder struct {
	subject     Subject
	note        func(format string, args ...any)
	byName      map[string]*Measurement
	order       []string // of byName
	failures    map[string]*partFailure
	failedParts []string // the order of failures

	// settle is called before each part and sweep after it, unless they are nil.
	settle, sweep func(context.Context) error
}

func newRecorder(subject Subject, note func(format string, args ...any)) *recorder {
	return &recorder{subject: subject, note: note, byName: map[string]*Measurement{}, failures: map[string]*partFailure{}}
}

// Subject names the thing measured: a runtime of the server, bare runsc, or
// plain processes. It is empty for the only runtime of a server.
type Subject string

// The subjects beside the runtimes of the server.
const (
	Runsc  Subject = "runsc"
	Native Subject = "native"
)

// enter registers the measurements of a group. The default shape is sequential.
func (r *recorder) enter(group Group, unit Unit, rows ...Measurement) {
	for _, m := range rows {
		m.Group, m.Unit, m.Subject = group, unit, r.subject
		if m.Shape == "" {
			m.Shape = Sequential
		}
		r.byName[m.Name] = &m
		r.order = append(r.order, m.Name)
	}
}

func (r *recorder) add(name string, value float64) {
	m := r.byName[name]
	m.Samples = append(m.Samples, value)
}

func (r *recorder) addTime(name string, took time.Duration) { r.add(name, ms(took)) }

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// maxFailures is the number of failures after which the rest of the run skips a
// part.
const maxFailures = 3

// partFailure counts the failures of a part and keeps the first error.
type partFailure struct {
	part  string
	first error
	times int
}

func (t *partFailure) String() string {
	text := fmt.Sprintf("%s: %v", t.part, t.first)
	if t.times > 1 {
		text += fmt.Sprintf(" (and %d more)", t.times-1)
	}
	if t.times >= maxFailures {
		text += "; it was then left out"
	}
	return text
}

// errPermanent marks failures that a retry cannot fix; the run skips the part.
var errPermanent = errors.New("not available here")

// attempt measures one part and deletes the sandboxes and snapshots that the
// part created. A failure is recorded and the run continues; the samples taken
// before the failure count. A part that has failed too often is skipped.
func (r *recorder) attempt(ctx context.Context, part string, do func(context.Context) error) {
	if ctx.Err() != nil || r.skipped(part) {
		return
	}
	var err, left error
	if r.settle != nil {
		err = r.settle(ctx)
	}
	if err == nil {
		err = do(ctx)
	}
	if r.sweep != nil {
		left = r.sweep(ctx)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		r.recordFailure(part, err)
	}
	if left != nil {
		r.recordFailure(partCleaning, left)
	}
}

// partCleaning names failed deletions between the parts. Deletion is tried
// again after each part, so its failures skip no part.
const partCleaning = "deleting the sandboxes and snapshots of a part"

func (r *recorder) skipped(part string) bool {
	t := r.failures[part]
	return t != nil && (t.times >= maxFailures || errors.Is(t.first, errPermanent))
}

// recordFailure counts a failure of a part. Only the first one is reported.
func (r *recorder) recordFailure(part string, err error) {
	t := r.failures[part]
	if t == nil {
		t = &partFailure{part: r.name(part), first: err}
		r.failures[part] = t
		r.failedParts = append(r.failedParts, part)
		r.note("%s: %v", t.part, err)
	}
	t.times++
}

// name is the name of a part or an operation, with the subject if there are several.
func (r *recorder) name(part string) string {
	if r.subject == "" {
		return part
	}
	return part + " of " + string(r.subject)
}
