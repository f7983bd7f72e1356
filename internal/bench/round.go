package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// execsPerRound is the number of measured execs per sandbox.
const execsPerRound = 3

// first creates and destroys one sandbox of the restored size. Its time is
// reported separately, because the server may have to make a template snapshot.
func (r *run) first(ctx context.Context) error {
	began := time.Now()
	sb, err := r.create(ctx, r.restoreSize)
	if err != nil {
		return err
	}
	r.addTime(opFirst, time.Since(began))
	r.template = sb.Template
	r.Note("%s took %.1f s", r.name("the first create"), time.Since(began).Seconds())
	return r.destroy(ctx, sb.ID)
}

// round measures each part once. The bare boot comes first in even rounds and
// last in odd ones, so that warm caches favor neither side.
func (r *run) round(ctx context.Context, i int) {
	if i%2 == 0 {
		r.attempt(ctx, "bare boot", r.bareBoot)
	}
	r.attempt(ctx, opPool, r.warmCreate)
	r.attempt(ctx, "the life of a restored sandbox", r.life)
	r.attempt(ctx, "the life of a sandbox by other paths", r.traffic)
	r.attempt(ctx, "Python", r.python)
	r.attempt(ctx, "fork", func(ctx context.Context) error { return r.fork(ctx, i) })
	r.attempt(ctx, "snapshot", r.snapshot)
	if i%2 == 1 {
		r.attempt(ctx, "bare boot", r.bareBoot)
	}
}

// warmCreate measures a create while a warm clone is ready.
func (r *run) warmCreate(ctx context.Context) error {
	if err := r.awaitClone(ctx); err != nil {
		return err
	}
	_, err := r.boot(ctx, r.Size)
	return err
}

// boot measures a create, and the time until the first command has ended. It
// returns the sandbox's id.
func (r *run) boot(ctx context.Context, size Size) (id string, err error) {
	began := time.Now()
	sb, err := r.create(ctx, size)
	created := time.Since(began)
	if err != nil {
		return "", err
	}
	if err := r.execTrue(ctx, sb.ID); err != nil {
		return "", err
	}
	return sb.ID, r.recordCreate(sb, created, time.Since(began))
}

// life measures one sandbox from create to delete. It transfers the file after
// the pause, because the file's pages would make the pause longer.
func (r *run) life(ctx context.Context) error {
	id, err := r.boot(ctx, r.restoreSize)
	if err != nil {
		return err
	}
	if err := r.execs(ctx, id); err != nil {
		return err
	}
	if mib, err := vmmMemory(id); err == nil {
		r.add(opMemory, mib)
	} else if !r.skipped(opMemory) {
		r.recordFailure(opMemory, fmt.Errorf("%w: %w", errPermanent, err))
	}
	if err := r.pauseResume(ctx, id, opPause, opResume); err != nil {
		return err
	}
	if r.FileBytes > 0 {
		if err := r.transfer(ctx, id); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := r.destroy(ctx, id); err != nil {
		return err
	}
	r.addTime(opDelete, time.Since(began))
	return nil
}

// execs measures commands in a sandbox that has run one before, and the share of
// that time that the guest itself needs.
func (r *run) execs(ctx context.Context, id string) error {
	var samples []float64
	for range execsPerRound {
		began := time.Now()
		if err := r.execTrue(ctx, id); err != nil {
			return err
		}
		samples = append(samples, ms(time.Since(began)))
		r.add(opExec, samples[len(samples)-1])
	}
	own, err := r.execInGuest(ctx, id)
	if err != nil {
		return err
	}
	slices.Sort(samples)
	r.add(opExecGuest, own)
	r.add(opExecAdded, median(samples)-own)
	return nil
}

// pauseResume measures both and checks that the sandbox answers afterwards.
func (r *run) pauseResume(ctx context.Context, id, pause, resume string) error {
	began := time.Now()
	if _, err := r.Client.Pause(ctx, id); err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	r.addTime(pause, time.Since(began))
	began = time.Now()
	if _, err := r.Client.Resume(ctx, id); err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	r.addTime(resume, time.Since(began))
	return r.execTrue(ctx, id)
}

func (r *run) execTrue(ctx context.Context, id string) error {
	_, err := r.exec(ctx, id, client.ExecRequest{Cmd: "true"})
	return err
}

// exec runs a command and returns its standard output. A non-zero exit code is
// an error.
func (r *run) exec(ctx context.Context, id string, in client.ExecRequest) (string, error) {
	res, err := r.Client.Exec(ctx, id, in)
	if err != nil {
		return "", fmt.Errorf("exec of %s: %w", in.Cmd, err)
	}
	if res.ExitCode != 0 {
		return "", fmt.Errorf("exec of %s ended with %d: %.200s", in.Cmd, res.ExitCode, res.Stderr)
	}
	return string(res.Stdout), nil
}

// guestLoops is the number of commands that guestScript times.
const guestLoops = 50

// guestScript prints two durations in nanoseconds: of guestLoops commands, and
// of an empty loop.
var guestScript = fmt.Sprintf(`a=$(date +%%s%%N)
i=0; while [ $i -lt %[1]d ]; do /bin/true; i=$((i+1)); done
b=$(date +%%s%%N)
i=0; while [ $i -lt %[1]d ]; do :; i=$((i+1)); done
c=$(date +%%s%%N)
echo $((b-a)) $((c-b))`, guestLoops)

// execInGuest returns the time that the guest needs for one command, in ms.
func (r *run) execInGuest(ctx context.Context, id string) (float64, error) {
	out, err := r.exec(ctx, id, client.ExecRequest{Cmd: "sh", Args: []string{"-c", guestScript}})
	if err != nil {
		return 0, err
	}
	var commands, loop int64
	if _, err := fmt.Sscan(out, &commands, &loop); err != nil {
		return 0, fmt.Errorf("output of the timing script: %.60q: %w", out, err)
	}
	return float64(commands-loop) / guestLoops / 1e6, nil
}

// bareBoot measures a boot by a bare QEMU. A failed boot is repeated once and
// counted, as Wrenn does, because under emulation about one boot in some
// hundreds fails.
func (r *run) bareBoot(ctx context.Context) error {
	if r.Bare == nil {
		return nil
	}
	took, err := r.Bare.boot(ctx, r.acceleration, r.Size)
	if err != nil && ctx.Err() == nil {
		r.Note("a bare boot failed; trying again: %v", err)
		r.report.BareRetries++
		took, err = r.Bare.boot(ctx, r.acceleration, r.Size)
	}
	if err != nil {
		return err
	}
	r.report.BareArgs = r.Bare.shownArgs(r.acceleration, r.Size)
	r.addTime(opBareBoot, took)
	return nil
}
