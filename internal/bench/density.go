package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Density is many idle sandboxes alive together.
type Density struct {
	// Wanted is how many were asked for, Alive how many there were, Answered
	// how many of those ran a command when all were there.
	Wanted   int `json:"wanted"`
	Alive    int `json:"alive"`
	Answered int `json:"answered"`
	// CreateSec is how long making them took, sweepers at a time.
	CreateSec float64 `json:"create_sec"`
	// RestSec is how long they were left alone before they were looked at.
	RestSec float64 `json:"rest_sec"`
	// Measured is how many had their processes measured; the next three are of
	// those. Zero means that none could be.
	Measured   int     `json:"measured"`
	PSSMeanMiB float64 `json:"pss_mean_mib"`
	PSSMaxMiB  float64 `json:"pss_max_mib"`
	// CPUShare is the CPU seconds that a sandbox used in each second of rest.
	CPUShare float64 `json:"cpu_sec_per_sandbox_and_sec"`
	// AvailableMiB is how much less memory the machine had available for each.
	AvailableMiB float64 `json:"available_fell_mib_per_sandbox"`
}

// crowd is the sandboxes of a density measurement.
type crowd struct {
	ids       []string
	available float64 // MiB, before the first
	processes map[string][]string
}

// density keeps sandboxes alive together and measures what they take.
func (r *run) density(ctx context.Context) error {
	d := &Density{Wanted: r.Density, RestSec: r.Rest.Seconds()}
	r.report.Density = d
	c, failed := r.gather(ctx, d)
	if len(c.ids) == 0 {
		return failed
	}
	r.Note("%d sandboxes are alive, after %.1f s", d.Alive, d.CreateSec)
	answers := make([]error, len(c.ids))
	inParallel(len(c.ids), sweepers, func(i int) { answers[i] = r.execTrue(ctx, c.ids[i]) })
	for _, err := range answers {
		if err == nil {
			d.Answered++
			continue
		}
		failed = errors.Join(failed, r.breaks(ctx, err))
	}
	return errors.Join(failed, r.watch(ctx, d, c))
}

// gather makes the sandboxes. One that fails does not keep the others away.
func (r *run) gather(ctx context.Context, d *Density) (crowd, error) {
	var c crowd
	var err error
	if c.available, err = availableMemory(); err != nil {
		return c, err
	}
	began := time.Now()
	ids, errs := make([]string, r.Density), make([]error, r.Density)
	inParallel(r.Density, sweepers, func(i int) {
		sb, err := r.create(ctx, r.restoreSize)
		if errs[i] = err; err == nil {
			ids[i] = sb.ID
		}
	})
	d.CreateSec = time.Since(began).Seconds()
	var first error
	for i, id := range ids {
		if errs[i] == nil {
			c.ids = append(c.ids, id)
		} else if first == nil {
			first = errs[i]
		}
	}
	d.Alive = len(c.ids)
	if first != nil {
		return c, fmt.Errorf("%d of %d failed: %w", d.Wanted-d.Alive, d.Wanted, first)
	}
	return c, nil
}

// watch leaves the sandboxes alone for a while and then looks at them.
func (r *run) watch(ctx context.Context, d *Density, c crowd) (err error) {
	if c.processes, err = vmmProcesses(c.ids); err != nil {
		return err
	}
	all := c.all()
	before, err := cpuTime(all)
	if err != nil {
		return err
	}
	began := time.Now()
	rest := time.NewTimer(r.Rest)
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := cpuTime(all)
	if err != nil {
		return err
	}
	rested := time.Since(began).Seconds()
	available, err := availableMemory()
	if err != nil {
		return err
	}
	d.AvailableMiB = (c.available - available) / float64(d.Alive)
	if d.Measured = len(c.processes); d.Measured == 0 {
		return errors.New("no VMM process of the sandboxes is on this machine")
	}
	d.CPUShare = (after - before).Seconds() / rested / float64(d.Measured)
	return r.weigh(d, c)
}

// all is every process of the crowd.
func (c crowd) all() (processes []string) {
	for _, p := range c.processes {
		processes = append(processes, p...)
	}
	return processes
}

// weigh measures the memory of every sandbox.
func (r *run) weigh(d *Density, c crowd) error {
	sum := 0.0
	for _, processes := range c.processes {
		mib, err := memoryOf(processes)
		if err != nil {
			d.Measured, d.CPUShare = 0, 0
			return err
		}
		r.add(opDensityMemory, mib)
		sum, d.PSSMaxMiB = sum+mib, max(d.PSSMaxMiB, mib)
	}
	d.PSSMeanMiB = sum / float64(d.Measured)
	return nil
}
