package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// Options select the measurements of a run. Client and Note are required.
type Options struct {
	Client *client.Client
	// Size is the size of sandboxes that may come from a warm pool. Sandboxes
	// that must be restored get a slightly larger disk, a size without a pool.
	Size Size
	// Rounds is the number of rounds. Each round measures every part once.
	Rounds int
	// Burst is the number of concurrent creates in a burst, and Waves the number
	// of bursts. One more batch of Burst creates starts them Stagger apart. A
	// Burst of 0 skips both.
	Burst, Waves int
	Stagger      time.Duration
	// DirtyMB lists the amounts of memory, in MiB, that a sandbox writes before
	// a measured pause or fork. Each amount is measured DirtyRounds times.
	DirtyMB     []int
	DirtyRounds int
	// FileBytes is the size of the file that is uploaded and downloaded; 0 skips
	// the transfers.
	FileBytes int64
	// Density is the number of idle sandboxes that are kept alive together; 0
	// skips the measurement. Rest is the time for which they are observed.
	Density int
	Rest    time.Duration
	// Bare configures the boots of a bare QEMU; nil skips the comparison.
	Bare *Bare
	// Note reports progress. Several goroutines may call it at once.
	Note func(format string, args ...any)
}

// Run performs the measurements and returns the report. The report lists each
// part that failed, and the other parts are measured all the same. Run returns
// both a report and an error if a create or fork failed, a file came back
// changed, or a sandbox could not be deleted. The report is nil if nothing
// could be measured, and when ctx has ended.
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
	return r.report, errors.Join(r.runError(), left)
}

// measure performs all measurements in order. An error ends the run.
func (r *run) measure(ctx context.Context) error {
	if err := r.describeServer(ctx); err != nil {
		return err
	}
	r.plan()
	if err := r.first(ctx); err != nil {
		return fmt.Errorf("the first create: %w", err)
	}
	// A server that has just started fills its pool, which would slow down the
	// measured operations.
	r.attempt(ctx, opPool, r.awaitClone)
	for i := range r.Rounds {
		r.round(ctx, i)
	}
	for i := range r.DirtyRounds {
		r.dirtyRound(ctx, i)
	}
	r.batches(ctx)
	if r.Density > 0 {
		r.attempt(ctx, "density", r.density)
	}
	return nil
}

// describeServer records versions, acceleration and pool of the server in the
// report. If there are several hosts, it describes the first.
func (r *run) describeServer(ctx context.Context) error {
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
	r.restoreSize = sizeWithoutPool(r.Size, hosts)
	for _, p := range host.Pools {
		if sizeOf(p) == r.Size {
			r.poolTarget = p.Target
		}
	}
	r.report.RestoreSandbox = r.restoreSize
	r.report.Acceleration = host.Acceleration
	r.report.Versions = Versions{
		Wrenn: health.Version, VMM: host.Driver + " " + host.DriverVersion, GuestKernel: host.KernelRelease,
	}
	return nil
}

// finish completes the report from the collected samples.
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
	for _, name := range r.failedParts {
		r.report.Missing = append(r.report.Missing, r.failures[name].String())
	}
	r.report.Ratios = r.report.ratios()
}
