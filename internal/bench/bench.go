package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// Options say what to measure. Client and Note are required.
type Options struct {
	Client *client.Client
	// Size is what every sandbox is given.
	Size Size
	// Rounds is how many sandboxes go through the sequence, one after another.
	Rounds int
	// Burst creates so many at once, Waves times; 0 is none.
	Burst, Waves int
	// FileBytes is the size of the file that goes in and out; 0 is none.
	FileBytes int64
	// Bare adds boots by a bare QEMU; nil leaves the comparison out.
	Bare *Bare
	// Note tells of progress.
	Note func(format string, args ...any)
}

// The operations, by the names they have in reports.
const (
	opBareBoot  = "bare_boot"
	opFirst     = "first_create"
	opCreate    = "create"
	opToExec    = "create_to_exec"
	opExec      = "exec"
	opMemory    = "idle_memory"
	opPause     = "pause"
	opResume    = "resume"
	opUpload    = "upload"
	opDownload  = "download"
	opDelete    = "delete"
	opBurst     = "burst_create"
	opBurstLast = "burst_all"
)

// run is one run in progress.
//
// Invariants: live holds every sandbox that was made and not yet destroyed.
type run struct {
	Options
	report *Report
	host   client.Host
	byName map[string]*Measurement
	order  []string

	mu   sync.Mutex // protects the following
	live map[string]bool
}

// Run measures and returns the report. The first call that fails ends it: a
// server that fails is not one to measure. Every sandbox it made is gone when
// it returns, or the error says which one is not.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	r := &run{
		Options: o, byName: map[string]*Measurement{}, live: map[string]bool{},
		report: &Report{
			Date: time.Now().UTC().Truncate(time.Second), Machine: thisMachine(),
			Sandbox: o.Size, Rounds: o.Rounds, Burst: o.Burst, Waves: o.Waves, FileBytes: o.FileBytes,
		},
	}
	began := time.Now()
	defer func() { err = errors.Join(err, r.clean(ctx)) }()
	if err := r.look(ctx); err != nil {
		return nil, err
	}
	r.plan()
	if err := r.first(ctx); err != nil {
		return nil, fmt.Errorf("the first create: %w", err)
	}
	for i := range o.Rounds {
		if err := r.round(ctx, i); err != nil {
			return nil, fmt.Errorf("round %d: %w", i+1, err)
		}
	}
	for i := range o.Waves {
		if o.Burst == 0 {
			break
		}
		if err := r.wave(ctx, i); err != nil {
			return nil, fmt.Errorf("burst %d: %w", i+1, err)
		}
	}
	r.report.TookSec = time.Since(began).Seconds()
	for _, name := range r.order {
		m := r.byName[name]
		m.summarise()
		r.report.Measurements = append(r.report.Measurements, *m)
	}
	return r.report, nil
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
	r.host = hosts[0]
	r.report.Acceleration = r.host.Acceleration
	r.report.Versions = Versions{
		Wrenn: health.Version, VMM: r.host.Driver + " " + r.host.DriverVersion, GuestKernel: r.host.KernelRelease,
	}
	return nil
}

// plan names the measurements, in the order of the report.
func (r *run) plan() {
	for _, m := range []Measurement{
		{Name: opBareBoot, Shape: Without, Unit: Milliseconds, About: "bare QEMU from its start to the guest's ready line"},
		{Name: opFirst, Shape: Sequential, Unit: Milliseconds, About: "the first create of this size, which makes its template if there is none"},
		{Name: opCreate, Shape: Sequential, Unit: Milliseconds, About: "POST /v1/sandboxes"},
		{Name: opToExec, Shape: Sequential, Unit: Milliseconds, About: "create and the end of the first exec of true"},
		{Name: opExec, Shape: Sequential, Unit: Milliseconds, About: "exec of true in a sandbox that has run it"},
		{Name: opPause, Shape: Sequential, Unit: Milliseconds, About: "pause of an idle sandbox"},
		{Name: opResume, Shape: Sequential, Unit: Milliseconds, About: "resume of it"},
		{Name: opDelete, Shape: Sequential, Unit: Milliseconds, About: "delete of a running sandbox"},
		{Name: opBurst, Shape: Burst, Unit: Milliseconds, About: fmt.Sprintf("each of %d creates begun at once", r.Burst)},
		{Name: opBurstLast, Shape: Burst, Unit: Milliseconds, About: fmt.Sprintf("until all %d were there", r.Burst)},
		{Name: opUpload, Shape: Sequential, Unit: MiBPerSecond, About: fmt.Sprintf("file of %d MiB into the sandbox", r.FileBytes>>20)},
		{Name: opDownload, Shape: Sequential, Unit: MiBPerSecond, About: "the same file out again"},
		{Name: opMemory, Shape: Sequential, Unit: MiB, About: "Pss of the VMM process after the first commands"},
	} {
		r.byName[m.Name] = &m
		r.order = append(r.order, m.Name)
	}
}

func (r *run) add(name string, value float64) {
	m := r.byName[name]
	m.Samples = append(m.Samples, value)
}

func (r *run) addTime(name string, began time.Time) { r.add(name, ms(time.Since(began))) }

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// create makes a sandbox that the run will destroy whatever happens.
func (r *run) create(ctx context.Context) (id string, err error) {
	never := 0
	sb, err := r.Client.Create(ctx, client.CreateRequest{
		VCPUs: r.Size.VCPUs, MemoryMB: r.Size.MemoryMB, DiskMB: r.Size.DiskMB,
		TimeoutSec: &never, Metadata: map[string]string{"purpose": "wrenn bench"},
	})
	if err != nil {
		return "", err
	}
	r.mu.Lock()
	r.live[sb.ID] = true
	r.mu.Unlock()
	return sb.ID, nil
}

func (r *run) destroy(ctx context.Context, id string) error {
	if err := r.Client.Destroy(ctx, id); err != nil {
		return err
	}
	r.mu.Lock()
	delete(r.live, id)
	r.mu.Unlock()
	return nil
}

// cleanLimit bounds the destroying of what a run has left.
const cleanLimit = time.Minute

func (r *run) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanLimit)
	defer cancel()
	r.mu.Lock()
	var ids []string
	for id := range r.live {
		ids = append(ids, id)
	}
	r.mu.Unlock()
	var errs []error
	for _, id := range ids {
		if err := r.destroy(ctx, id); err != nil {
			errs = append(errs, fmt.Errorf("sandbox %s is left: %w", id, err))
		}
	}
	return errors.Join(errs...)
}
