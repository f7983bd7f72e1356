package bench

import "time"

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
	// Sandbox is the size of those from the pool, of those of the volleys and
	// of the bare machines; RestoreSandbox, of which no pool keeps clones, that
	// of all others.
	Sandbox        Size `json:"sandbox"`
	RestoreSandbox Size `json:"restore_sandbox"`
	Rounds         int  `json:"rounds"`
	// Burst is how many creates began at once or StaggerMS apart, Waves how
	// often at once; 0 is none.
	Burst       int   `json:"burst"`
	Waves       int   `json:"waves"`
	StaggerMS   int64 `json:"stagger_ms"`
	DirtyMB     []int `json:"dirty_mb"`
	DirtyRounds int   `json:"dirty_rounds"`
	FileBytes   int64 `json:"file_bytes"`
	// BareArgs are the arguments of the bare QEMU, paths by their last element.
	BareArgs []string `json:"bare_args,omitempty"`
	// BareRetries is how many bare boots died and were tried again.
	BareRetries  int           `json:"bare_retries"`
	Measurements []Measurement `json:"measurements"`
	// Ratios compare creates with the bare boot.
	Ratios []Ratio `json:"ratios,omitempty"`
	// Lines are the cost of pause and resume by the memory written, and of the
	// window of a fork by the memory or disk written.
	Lines   []Line   `json:"lines,omitempty"`
	Volleys []Volley `json:"volleys,omitempty"`
	// Density is nil where it was not asked for.
	Density *Density `json:"density,omitempty"`
	// Missing says what was not measured, or not as often as asked, and why.
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

// Ratio is how many times faster one operation is than another, by their
// medians.
type Ratio struct {
	Name  string  `json:"name"`
	Than  string  `json:"than"`
	Times float64 `json:"times_faster"`
}

// Volley is many creates that came together.
type Volley struct {
	Shape Shape `json:"shape"`
	N     int   `json:"n"`
	// FromPool were answered by a warm clone; Failed were not answered.
	FromPool int `json:"from_pool"`
	// Kept is how many warm clones of the size the server keeps.
	Kept   int `json:"kept"`
	Failed int `json:"failed"`
	// ToExec says that each was followed by a command.
	ToExec bool    `json:"to_exec"`
	TookMS float64 `json:"took_ms"`
	// Load1 is the load average of the minute, after it.
	Load1 float64 `json:"load1"`
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

func (r *Report) ratios() (out []Ratio) {
	bare := r.find(opBareBoot)
	if bare == nil {
		return nil
	}
	for _, name := range []string{opPool, opRestore} {
		if m := r.find(name); m != nil && m.Median > 0 {
			out = append(out, Ratio{Name: name, Than: opBareBoot, Times: bare.Median / m.Median})
		}
	}
	return out
}
