package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// fillLimit bounds the writing of a sandbox's memory.
const fillLimit = time.Minute

// fillScript writes so many MiB, none of them zero, into memory. One half goes
// to each of two file systems in memory, because either may hold no more than
// half of the guest's; their size is checked, for yes dies silently.
const fillScript = `set -e
for f in /dev/shm/bench /run/bench; do
	yes 'wrenn bench' | head -c $(($1 * 524288)) >$f
	[ $(stat -c %s $f) = $(($1 * 524288)) ]
done`

// dirtyRound measures pause and resume once for each amount of memory.
func (r *run) dirtyRound(ctx context.Context, i int) {
	began := time.Now()
	for _, mb := range r.DirtyMB {
		r.attempt(ctx, opDirty(opPause, mb), func(ctx context.Context) error { return r.dirtyPause(ctx, mb) })
	}
	r.Note("pauses with memory written, %d of %d, took %.1f s", i+1, r.DirtyRounds, time.Since(began).Seconds())
}

// dirtyPause pauses and resumes a new sandbox with so many MiB written.
func (r *run) dirtyPause(ctx context.Context, mb int) error {
	sb, err := r.create(ctx, r.restoreSize)
	if err != nil {
		return err
	}
	_, err = r.exec(ctx, sb.ID, client.ExecRequest{
		Cmd: "sh", Args: []string{"-c", fillScript, "sh", fmt.Sprint(mb)}, User: "root", Timeout: fillLimit,
	})
	if err != nil {
		return err
	}
	pause, resume := opDirty(opPause, mb), opDirty(opResume, mb)
	if err := r.pauseResume(ctx, sb.ID, pause, resume); err != nil {
		return err
	}
	r.addPoint(opPause, mb, last(r.byName[pause].Samples))
	r.addPoint(opResume, mb, last(r.byName[resume].Samples))
	return nil
}

func (r *run) addPoint(line string, mb int, took float64) {
	if r.lines[line] == nil {
		r.lines[line] = &Line{Name: line}
	}
	r.lines[line].Points = append(r.lines[line].Points, Point{DirtyMB: float64(mb), MS: took})
}

func last(samples []float64) float64 { return samples[len(samples)-1] }
