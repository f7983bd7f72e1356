package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// fillLimit bounds the writing of a sandbox's memory.
const fillLimit = time.Minute

// fillScript writes $1 MiB of non-zero data into memory, in a file system of its own,
// because those of a sandbox are limited to parts of its memory. It checks the size,
// because a failed write ends yes silently.
const fillScript = `set -e
mkdir -p /run/bench
mount -t tmpfs -o size=$(($1 + 1))m tmpfs /run/bench
yes 'wrenn bench' | head -c $(($1 * 1048576)) >/run/bench/file
[ $(stat -c %s /run/bench/file) = $(($1 * 1048576)) ]`

// fillDiskScript writes $1 MiB of non-zero data to the disk.
const fillDiskScript = `set -e
yes 'wrenn bench' | head -c $(($1 * 1048576)) >/var/bench
[ $(stat -c %s /var/bench) = $(($1 * 1048576)) ]
sync`

// dirtyRound measures once for each amount: pause and resume after memory was
// written, and the pause window of forks after memory or disk was written.
func (r *run) dirtyRound(ctx context.Context, i int) {
	began := time.Now()
	for _, mb := range r.DirtyMB {
		r.attempt(ctx, opDirty(opPause, mb), func(ctx context.Context) error { return r.dirtyPause(ctx, mb) })
		r.attempt(ctx, opDirty(opForkMemory, mb), func(ctx context.Context) error {
			return r.dirtyFork(ctx, opForkMemory, fillScript, mb)
		})
		r.attempt(ctx, opDirty(opForkDisk, mb), func(ctx context.Context) error {
			return r.dirtyFork(ctx, opForkDisk, fillDiskScript, mb)
		})
	}
	r.Note("%s, %d of %d, took %.1f s", r.name("pauses and forks with memory or disk written"), i+1, r.DirtyRounds, time.Since(began).Seconds())
}

// dirtyPause measures pause and resume of a new sandbox that has written mb MiB.
func (r *run) dirtyPause(ctx context.Context, mb int) error {
	sb, err := r.filled(ctx, fillScript, mb)
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

// dirtyFork forks a new sandbox in which script has written mb MiB, and records
// the pause window.
func (r *run) dirtyFork(ctx context.Context, op, script string, mb int) error {
	sb, err := r.filled(ctx, script, mb)
	if err != nil {
		return err
	}
	forked, err := r.Client.Fork(ctx, sb.ID, client.ForkRequest{Count: 1})
	if err != nil {
		return r.failRun(ctx, err)
	}
	r.mu.Lock()
	for _, child := range forked.Sandboxes {
		r.sandboxes[child.ID] = true
	}
	r.mu.Unlock()
	r.add(opDirty(op, mb), forked.PauseWindowMS)
	r.addPoint(op, mb, forked.PauseWindowMS)
	return nil
}

// filled creates a sandbox in which script has written mb MiB.
func (r *run) filled(ctx context.Context, script string, mb int) (*client.Sandbox, error) {
	sb, err := r.create(ctx, r.restoreSize)
	if err != nil {
		return nil, err
	}
	_, err = r.exec(ctx, sb.ID, client.ExecRequest{
		Cmd: "sh", Args: []string{"-c", script, "sh", fmt.Sprint(mb)}, User: "root", Timeout: fillLimit,
	})
	return sb, err
}

func (r *run) addPoint(line string, mb int, took float64) {
	if r.lines[line] == nil {
		r.lines[line] = &Line{Name: line, Subject: r.subject}
	}
	r.lines[line].Points = append(r.lines[line].Points, Point{DirtyMB: float64(mb), MS: took})
}

func last(samples []float64) float64 { return samples[len(samples)-1] }
