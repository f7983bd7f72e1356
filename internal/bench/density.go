package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Density reports the cost of idle sandboxes that are alive at the same time.
type Density struct {
	// Subject is the runtime of the sandboxes.
	Subject Subject `json:"runtime,omitempty"`
	// Wanted is the requested number of sandboxes, Alive the number that were
	// created, Answered the number of those that ran a command when all were
	// alive.
	Wanted   int `json:"wanted"`
	Alive    int `json:"alive"`
	Answered int `json:"answered"`
	// CreateSec is the time to create them all, with maxParallel requests in
	// flight.
	CreateSec float64 `json:"create_sec"`
	// RestSec is the time for which they stayed idle while CPU time was counted.
	RestSec float64 `json:"rest_sec"`
	// Measured is the number of sandboxes whose processes were measured. The
	// next three fields describe those. Zero means that none could be measured.
	Measured   int     `json:"measured"`
	PSSMeanMiB float64 `json:"pss_mean_mib"`
	PSSMaxMiB  float64 `json:"pss_max_mib"`
	// CPUShare is the CPU time, in seconds, that a sandbox used per second.
	CPUShare float64 `json:"cpu_sec_per_sandbox_and_sec"`
	// ServerCPUShare is the CPU time, in seconds, that the server used per second,
	// with the host agent in it. Zero means that it is not known.
	ServerCPUShare float64 `json:"server_cpu_sec_per_sec,omitempty"`
	// AvailableMiB is the decrease of the machine's available memory per sandbox.
	AvailableMiB float64 `json:"available_fell_mib_per_sandbox"`
}

// idleGroup holds the sandboxes of a density measurement.
type idleGroup struct {
	ids       []string
	available float64 // MiB, before the first
	processes map[string][]string
}

// density measures the memory and CPU time of sandboxes that are alive together.
func (r *run) density(ctx context.Context) error {
	d := &Density{Subject: r.subject, Wanted: r.Density, RestSec: r.Rest.Seconds()}
	r.report.Density = append(r.report.Density, d)
	c, failed := r.createIdle(ctx, d)
	if len(c.ids) == 0 {
		return failed
	}
	r.Note("%d sandboxes are alive, after %.1f s", d.Alive, d.CreateSec)
	answers := make([]error, len(c.ids))
	inParallel(len(c.ids), maxParallel, func(i int) { answers[i] = r.execTrue(ctx, c.ids[i]) })
	for _, err := range answers {
		if err == nil {
			d.Answered++
			continue
		}
		failed = errors.Join(failed, r.failRun(ctx, err))
	}
	return errors.Join(failed, r.observe(ctx, d, c))
}

// createIdle creates the sandboxes. If some fail, it returns the others together
// with an error.
func (r *run) createIdle(ctx context.Context, d *Density) (idleGroup, error) {
	var c idleGroup
	var err error
	if c.available, err = availableMemory(); err != nil {
		return c, err
	}
	began := time.Now()
	ids, errs := make([]string, r.Density), make([]error, r.Density)
	inParallel(r.Density, maxParallel, func(i int) {
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

// observe leaves the sandboxes idle for Rest and then measures them.
func (r *run) observe(ctx context.Context, d *Density, c idleGroup) (err error) {
	if c.processes, err = vmmProcesses(c.ids); err != nil {
		return err
	}
	all := c.all()
	before, err := cpuTime(all)
	if err != nil {
		return err
	}
	serverBefore, _ := r.serverTime()
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
	if server, err := r.serverTime(); err == nil {
		d.ServerCPUShare = (server - serverBefore).Seconds() / rested
	}
	available, err := availableMemory()
	if err != nil {
		return err
	}
	d.AvailableMiB = (c.available - available) / float64(d.Alive)
	if d.Measured = len(c.processes); d.Measured == 0 {
		return errors.New("no VMM process of the sandboxes is on this machine")
	}
	d.CPUShare = (after - before).Seconds() / rested / float64(d.Measured)
	return r.measureMemory(d, c)
}

// serverTime returns the CPU time of the server's process.
func (r *run) serverTime() (time.Duration, error) {
	if r.Server == 0 {
		return 0, errPermanent
	}
	return cpuTime([]string{fmt.Sprintf("/proc/%d", r.Server)})
}

// all returns the processes of all sandboxes in the group.
func (c idleGroup) all() (processes []string) {
	for _, p := range c.processes {
		processes = append(processes, p...)
	}
	return processes
}

// measureMemory records the memory of every sandbox, its mean and its maximum.
func (r *run) measureMemory(d *Density, c idleGroup) error {
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
