package bench

import (
	"context"
	"errors"
	"fmt"
)

// maxTrouble is how often a part may fail before it is left out of the rest of
// the run.
const maxTrouble = 3

// trouble is what kept a part from being measured.
type trouble struct {
	part  string
	first error
	times int
}

func (t *trouble) String() string {
	text := fmt.Sprintf("%s: %v", t.part, t.first)
	if t.times > 1 {
		text += fmt.Sprintf(" (and %d more)", t.times-1)
	}
	if t.times >= maxTrouble {
		text += "; it was then left out"
	}
	return text
}

// errNotHere is wrapped by what will not be better in the next round.
var errNotHere = errors.New("not here")

// attempt measures one part and deletes what it made. If it fails that is
// noted, what it had measured until then counts, and the run goes on; a part
// that has failed too often is skipped.
func (r *run) attempt(ctx context.Context, part string, do func(context.Context) error) {
	if ctx.Err() != nil || r.leftOut(part) {
		return
	}
	err := r.settle(ctx)
	if err == nil {
		err = do(ctx)
	}
	left := r.sweep(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		r.suffer(part, err)
	}
	if left != nil {
		r.suffer(partCleaning, left)
	}
}

// partCleaning stands for what could not be deleted between the parts. It is
// tried again after each, and is no reason to leave another out.
const partCleaning = "deleting what a part made"

func (r *run) leftOut(part string) bool {
	t := r.troubles[part]
	return t != nil && (t.times >= maxTrouble || errors.Is(t.first, errNotHere))
}

// suffer notes that a part failed.
func (r *run) suffer(part string, err error) {
	t := r.troubles[part]
	if t == nil {
		t = &trouble{part: part, first: err}
		r.troubles[part] = t
		r.troubled = append(r.troubled, part)
		r.Note("%s: %v", part, err)
	}
	t.times++
}
