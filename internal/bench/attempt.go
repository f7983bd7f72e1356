package bench

import (
	"context"
	"errors"
	"fmt"
)

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
func (r *run) attempt(ctx context.Context, part string, do func(context.Context) error) {
	if ctx.Err() != nil || r.skipped(part) {
		return
	}
	err := r.awaitFullPools(ctx)
	if err == nil {
		err = do(ctx)
	}
	left := r.sweep(ctx)
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
const partCleaning = "deleting what a part made"

func (r *run) skipped(part string) bool {
	t := r.failures[part]
	return t != nil && (t.times >= maxFailures || errors.Is(t.first, errPermanent))
}

// recordFailure counts a failure of a part. Only the first one is reported.
func (r *run) recordFailure(part string, err error) {
	t := r.failures[part]
	if t == nil {
		t = &partFailure{part: part, first: err}
		r.failures[part] = t
		r.failedParts = append(r.failedParts, part)
		r.Note("%s: %v", part, err)
	}
	t.times++
}
