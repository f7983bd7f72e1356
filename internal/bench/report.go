package bench

import "time"

// Report describes one run: machine, versions, options and every sample.
type Report struct {
	Date time.Time `json:"date"` // start of the run, UTC
	// TookSec is the duration of the run in seconds.
	TookSec  float64  `json:"took_sec"`
	Machine  Machine  `json:"machine"`
	Versions Versions `json:"versions"`
	// Acceleration is that of the host's preferred runtime: "kvm", "tcg" (software
	// emulation) or "systrap" (gVisor).
	Acceleration string `json:"acceleration"`
	// Runtimes are those of the host, the preferred one first.
	Runtimes []RuntimeInfo `json:"runtimes,omitempty"`
	// Sandbox is the size of sandboxes from the pool, of batches and of bare
	// boots. All others have the size RestoreSandbox, which has no pool.
	Sandbox        Size `json:"sandbox"`
	RestoreSandbox Size `json:"restore_sandbox"`
	Rounds         int  `json:"rounds"`
	// Burst is the number of creates in a batch, Waves the number of bursts. The
	// creates of the staggered batch start StaggerMS apart. 0 means none.
	Burst       int   `json:"burst"`
	Waves       int   `json:"waves"`
	StaggerMS   int64 `json:"stagger_ms"`
	DirtyMB     []int `json:"dirty_mb"`
	DirtyRounds int   `json:"dirty_rounds"`
	FileBytes   int64 `json:"file_bytes"`
	// BareArgs are the arguments of the bare QEMU, paths by their last element.
	BareArgs []string `json:"bare_args,omitempty"`
	// BareRetries is the number of bare boots that failed and were repeated.
	BareRetries  int           `json:"bare_retries"`
	Measurements []Measurement `json:"measurements"`
	// Ratios compare creates with the bare boot.
	Ratios []Ratio `json:"ratios,omitempty"`
	// Lines give the times of pause and resume by the memory written, and the
	// pause window of a fork by the memory or disk written.
	Lines   []Line  `json:"lines,omitempty"`
	Batches []Batch `json:"batches,omitempty"`
	// Density has an entry for each runtime, or none unless it was requested.
	Density []*Density `json:"density,omitempty"`
	// Aims compare gVisor's medians with the aims of the project.
	Aims []Aim `json:"aims,omitempty"`
	// Comparisons are between gVisor and bare runsc.
	Comparisons []Comparison `json:"comparisons,omitempty"`
	// Missing names each part without its full number of samples, and its error.
	Missing []string `json:"missing,omitempty"`
}

// Size is the size of a sandbox: virtual CPUs, memory and disk in MiB.
type Size struct {
	VCPUs    int `json:"vcpus"`
	MemoryMB int `json:"memory_mb"`
	DiskMB   int `json:"disk_mb"`
}

// Versions holds the versions of the measured components.
type Versions struct {
	Wrenn       string `json:"wrenn"`
	VMM         string `json:"vmm"`
	GuestKernel string `json:"guest_kernel"`
}

// RuntimeInfo describes a runtime of the host.
type RuntimeInfo struct {
	Name         string `json:"name"`
	Acceleration string `json:"acceleration"`
	VMM          string `json:"vmm"`
	Reason       string `json:"reason"`
}

// Ratio compares the medians of two operations: Name is Times times as fast as
// Than.
type Ratio struct {
	Subject Subject `json:"runtime,omitempty"`
	Name    string  `json:"name"`
	Than    string  `json:"than"`
	Times   float64 `json:"times_faster"`
}

// Batch reports creates that were requested together.
type Batch struct {
	Subject Subject `json:"runtime,omitempty"`
	Shape   Shape   `json:"shape"`
	N       int     `json:"n"`
	// FromPool is the number of creates that got a warm clone, Failed the number
	// that failed.
	FromPool int `json:"from_pool"`
	// PoolTarget is the number of warm clones of the size that the server keeps.
	PoolTarget int `json:"pool_target"`
	Failed     int `json:"failed"`
	// ToExec tells that each create was followed by a command.
	ToExec bool    `json:"to_exec"`
	TookMS float64 `json:"took_ms"`
	// Load1 is the 1-minute load average after the batch.
	Load1 float64 `json:"load1"`
}

// find returns the first measurement called name that has samples, or nil.
func (r *Report) find(name string) *Measurement {
	for i := range r.Measurements {
		if m := &r.Measurements[i]; m.Name == name && m.N > 0 {
			return m
		}
	}
	return nil
}

// of returns the measurement of a subject called name, or nil if it has no samples.
func (r *Report) of(subject Subject, name string) *Measurement {
	for i := range r.Measurements {
		if m := &r.Measurements[i]; m.Name == name && m.Subject == subject && m.N > 0 {
			return m
		}
	}
	return nil
}

// ratios compares the creates of each runtime with bare boots of the same guest.
func (r *Report) ratios() (out []Ratio) {
	for _, bare := range r.Measurements {
		if bare.Name != opBareBoot || bare.N == 0 || bare.Subject == Runsc {
			continue
		}
		for _, name := range []string{opPool, opRestore} {
			if m := r.of(bare.Subject, name); m != nil && m.Median > 0 {
				out = append(out, Ratio{Subject: m.Subject, Name: name, Than: opBareBoot, Times: bare.Median / m.Median})
			}
		}
	}
	return out
}
