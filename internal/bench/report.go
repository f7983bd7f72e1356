package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Report is one run: where, with what, and every sample.
type Report struct {
	Date time.Time `json:"date"` // when it began, UTC
	// TookSec is how long the whole run took.
	TookSec  float64  `json:"took_sec"`
	Machine  Machine  `json:"machine"`
	Versions Versions `json:"versions"`
	// Acceleration is "kvm" or "tcg" (software), the same for sandboxes and
	// bare boots.
	Acceleration string `json:"acceleration"`
	// Sandbox is the size of every one, and of the bare machines.
	Sandbox Size `json:"sandbox"`
	Rounds  int  `json:"rounds"`
	// Burst is how many creates began at once, Waves how often; 0 is none.
	Burst     int   `json:"burst"`
	Waves     int   `json:"waves"`
	FileBytes int64 `json:"file_bytes"`
	// BareArgs are the arguments of the bare QEMU, paths by their last element.
	BareArgs []string `json:"bare_args,omitempty"`
	// BareRetries is how many bare boots died and were tried again.
	BareRetries  int           `json:"bare_retries"`
	Measurements []Measurement `json:"measurements"`
	// Missing says what was not measured, and why.
	Missing []string `json:"missing,omitempty"`
}

// Size is what a sandbox is given.
type Size struct {
	VCPUs    int `json:"vcpus"`
	MemoryMB int `json:"memory_mb"`
	DiskMB   int `json:"disk_mb"`
}

// Versions are those of the parts that were measured.
type Versions struct {
	Wrenn       string `json:"wrenn"`
	VMM         string `json:"vmm"`
	GuestKernel string `json:"guest_kernel"`
}

// find returns a measurement that has samples, or nil.
func (r *Report) find(name string) *Measurement {
	for i := range r.Measurements {
		if m := &r.Measurements[i]; m.Name == name && m.N > 0 {
			return m
		}
	}
	return nil
}

// Text writes the report for people.
func (r *Report) Text(w io.Writer) error {
	fmt.Fprintf(w, "%s, %d cores, %d MB, Linux %s; load %.2f at start, %.2f at most\n",
		r.Machine.CPU, r.Machine.Cores, r.Machine.MemoryMB, r.Machine.Kernel, r.Machine.Load1,
		r.Machine.peakLoad())
	fmt.Fprintf(w, "wrenn %s, %s, guest kernel %s, acceleration %s; %s\n",
		r.Versions.Wrenn, r.Versions.VMM, r.Versions.GuestKernel, r.Acceleration, r.Date.Format("2006-01-02 15:04 MST"))
	fmt.Fprintf(w, "sandboxes of %d vCPU, %d MB memory, %d MB disk; %d rounds; files of %d MiB\n\n",
		r.Sandbox.VCPUs, r.Sandbox.MemoryMB, r.Sandbox.DiskMB, r.Rounds, r.FileBytes>>20)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "OPERATION\tSHAPE\tMEDIAN\tP95 (RATES: P5)\tMIN\tMAX\tN\tWHAT")
	for _, m := range r.Measurements {
		if m.N == 0 {
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", m.Name, m.Shape,
			show(m.Median, m.Unit), show(m.Tail, m.Unit), show(m.Min, m.Unit), show(m.Max, m.Unit), m.N, m.About)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if create, bare := r.find(opCreate), r.find(opBareBoot); create != nil && bare != nil {
		fmt.Fprintf(w, "\ncreate takes %.2f times as long as the bare boot of the same guest (medians).\n", create.Median/bare.Median)
	}
	if r.BareRetries > 0 {
		fmt.Fprintf(w, "%d bare boots died and were tried again; their time is not counted.\n", r.BareRetries)
	}
	for _, what := range r.Missing {
		fmt.Fprintf(w, "not measured: %s\n", what)
	}
	_, err := fmt.Fprintln(w, "These numbers hold for this machine, at this load, in this run.")
	return err
}

// show writes a value with three digits or so.
func show(v float64, u Unit) string {
	switch {
	case u == Milliseconds && v >= 1000:
		return fmt.Sprintf("%.2f s", v/1000)
	case v >= 100:
		return fmt.Sprintf("%.0f %s", v, u)
	default:
		return fmt.Sprintf("%.1f %s", v, u)
	}
}
