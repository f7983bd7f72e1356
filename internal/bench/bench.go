package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// Options say what to measure. Client and Note are required.
type Options struct {
	Client *client.Client
	// Size is what sandboxes are given. Those that are not to come from a warm
	// pool get a slightly larger disk, of which no pool keeps any.
	Size Size
	// Rounds is how often each part is measured, in turn with the others.
	Rounds int
	// Burst creates so many at once, Waves times, and once so many with a
	// Stagger between one and the next; 0 is none.
	Burst, Waves int
	Stagger      time.Duration
	// DirtyMB are the amounts of memory, in MiB, that are written before a
	// pause to see what each costs; DirtyRounds is how often.
	DirtyMB     []int
	DirtyRounds int
	// FileBytes is the size of the file that goes in and out; 0 is none.
	FileBytes int64
	// Density keeps so many idle sandboxes alive together; 0 is none. Rest is
	// how long they are watched.
	Density int
	Rest    time.Duration
	// Bare adds boots by a bare QEMU; nil leaves the comparison out.
	Bare *Bare
	// Note tells of progress.
	Note func(format string, args ...any)
}

// Run measures and returns the report. What fails is named there and the rest
// is measured all the same. If creates failed, a file came back changed or a
// sandbox is left, the error says so and the report is there nevertheless. It
// is nil where nothing could be measured and when ctx has ended.
func Run(ctx context.Context, o Options) (*Report, error) {
	r := newRun(o)
	began := time.Now()
	err := r.measure(ctx)
	left := r.clean(ctx)
	if err := errors.Join(err, ctx.Err()); err != nil {
		return nil, errors.Join(err, left)
	}
	r.finish()
	r.report.TookSec = time.Since(began).Seconds()
	return r.report, errors.Join(r.verdict(), left)
}

// measure goes through everything. Its error ends the run.
func (r *run) measure(ctx context.Context) error {
	if err := r.look(ctx); err != nil {
		return err
	}
	r.plan()
	if err := r.first(ctx); err != nil {
		return fmt.Errorf("the first create: %w", err)
	}
	// A server that has just begun fills its pool, beside what would be measured.
	r.attempt(ctx, opPool, r.awaitClone)
	for i := range r.Rounds {
		r.round(ctx, i)
	}
	for i := range r.DirtyRounds {
		r.dirtyRound(ctx, i)
	}
	r.volleys(ctx)
	if r.Density > 0 {
		r.attempt(ctx, "density", r.density)
	}
	return nil
}

// look asks the server what it is. The first host stands for all.
func (r *run) look(ctx context.Context) error {
	health, err := r.Client.Ready(ctx)
	if err != nil {
		return err
	}
	hosts, err := r.Client.Hosts(ctx)
	if err != nil {
		return err
	}
	if len(hosts) == 0 {
		return errors.New("the server has no host")
	}
	host := hosts[0]
	r.restoreSize = notKept(r.Size, hosts)
	for _, p := range host.Pools {
		if sizeOf(p) == r.Size {
			r.kept = p.Target
		}
	}
	r.report.RestoreSandbox = r.restoreSize
	r.report.Acceleration = host.Acceleration
	r.report.Versions = Versions{
		Wrenn: health.Version, VMM: host.Driver + " " + host.DriverVersion, GuestKernel: host.KernelRelease,
	}
	return nil
}

// finish completes the report from what was collected.
func (r *run) finish() {
	for _, name := range r.order {
		m := r.byName[name]
		m.summarise()
		r.report.Measurements = append(r.report.Measurements, *m)
	}
	for _, name := range []string{opPause, opResume, opForkMemory, opForkDisk} {
		if l := r.lines[name]; l != nil {
			l.Fit = fitLine(l.Points)
			r.report.Lines = append(r.report.Lines, *l)
		}
	}
	for _, name := range r.troubled {
		r.report.Missing = append(r.report.Missing, r.troubles[name].String())
	}
	r.report.Ratios = r.report.ratios()
}
