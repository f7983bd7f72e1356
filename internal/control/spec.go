package control

import (
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// SpecRequest holds the settings of a new sandbox that its user gave. A nil field
// takes its default, or the value of the snapshot from which the sandbox starts.
type SpecRequest struct {
	Template                *string
	VCPUs, MemoryMB, DiskMB *int
	// Clocks are the clocks that were given; its Extend must be nil.
	Clocks       ClockRequest
	Env          map[string]string
	Hostname     string
	MinIsolation sandbox.Isolation
	// Runtime is the runtime that the user asked for; empty is any.
	Runtime sandbox.Runtime
	// PublicPorts are the ports that everyone may reach.
	PublicPorts []int
	// PublicTraffic, RequestHost and HTTPSPorts are those of [sandbox.Spec].
	PublicTraffic bool
	RequestHost   string
	HTTPSPorts    []int
	// PauseDiskOnly is that of [sandbox.Spec].
	PauseDiskOnly bool
	// Egress limits the addresses that the sandbox can reach.
	Egress sandbox.Egress
}

// Complete returns the whole spec of a sandbox that starts from an image: the
// settings in r, and defaults for all others. It is the only place where a spec of
// a user is completed, and the spec that it returns is valid. The error names the
// field and its range; for sizes that is the range that hosts allow.
func (r SpecRequest) Complete(hosts []HostInfo) (sandbox.Spec, error) {
	spec := sandbox.Spec{
		Timeout: sandbox.DefaultTimeoutSec * time.Second, Env: r.Env, Hostname: r.Hostname, MinIsolation: r.MinIsolation,
		Runtime: r.Runtime, PublicPorts: r.PublicPorts, PublicTraffic: r.PublicTraffic, RequestHost: r.RequestHost, HTTPSPorts: r.HTTPSPorts,
		Egress: r.Egress, PauseDiskOnly: r.PauseDiskOnly,
	}.WithDefaults()
	if r.Template != nil {
		spec.Template = *r.Template
	}
	for _, size := range []struct {
		given *int
		dst   *int
	}{{r.VCPUs, &spec.VCPUs}, {r.MemoryMB, &spec.MemoryMB}, {r.DiskMB, &spec.DiskMB}} {
		if size.given != nil {
			*size.dst = *size.given
		}
	}
	spec, err := r.Clocks.ApplyTo(spec)
	if reason := fault.ReasonOf(err); reason == "invalid_vcpus" || reason == "invalid_memory" {
		if hostErr := spec.ValidateFor(widestLimits(hosts)); hostErr != nil {
			return spec, hostErr
		}
	}
	return spec, err
}

// widestLimits returns the limits that at least one of the hosts allows, or the
// product's own limits where no host is known.
func widestLimits(hosts []HostInfo) sandbox.Limits {
	out := sandbox.Limits{MinMemoryMB: sandbox.MaxMemoryMB}
	known := false
	for _, h := range hosts {
		if h.Limits == (sandbox.Limits{}) {
			continue
		}
		known = true
		out.MaxVCPUs = max(out.MaxVCPUs, h.Limits.MaxVCPUs)
		out.MinMemoryMB = min(out.MinMemoryMB, h.Limits.MinMemoryMB)
		out.MaxMemoryMB = max(out.MaxMemoryMB, h.Limits.MaxMemoryMB)
	}
	if !known {
		return sandbox.Limits{MaxVCPUs: sandbox.MaxVCPUs, MinMemoryMB: sandbox.MinMemoryMB, MaxMemoryMB: sandbox.MaxMemoryMB}
	}
	return out
}

// sizedBy returns spec, which r completed, with the template, the runtime and the
// sizes of from.
// The request may repeat them but not change them. byTemplate says that the
// request's template is the snapshot's name as a template.
func (r SpecRequest) sizedBy(from Snapshot, spec sandbox.Spec, byTemplate bool) (sandbox.Spec, error) {
	fixed := from.Spec
	differs := func(given *int, have int) bool { return given != nil && *given != have }
	for _, f := range []struct {
		name    string
		have    any
		differs bool
	}{
		{
			"template", fixed.TemplateName(),
			!byTemplate && r.Template != nil && *r.Template != fixed.Template && *r.Template != fixed.TemplateName(),
		},
		{"vcpus", fixed.VCPUs, differs(r.VCPUs, fixed.VCPUs)},
		{"memory_mb", fixed.MemoryMB, differs(r.MemoryMB, fixed.MemoryMB)},
		{"disk_mb", fixed.DiskMB, differs(r.DiskMB, fixed.DiskMB)},
		{"runtime", fixed.Runtime, r.Runtime != "" && r.Runtime != fixed.Runtime},
	} {
		if f.differs {
			return spec, fault.New(fault.Invalid, "snapshot_fixes_size",
				"%s comes from the snapshot, which has %v: leave it out", f.name, f.have)
		}
	}
	spec.Template, spec.VCPUs, spec.MemoryMB, spec.DiskMB = fixed.Template, fixed.VCPUs, fixed.MemoryMB, fixed.DiskMB
	spec.Runtime, spec.User, spec.Workdir = fixed.Runtime, fixed.User, fixed.Workdir
	spec.TemplateID, spec.TemplateRef = fixed.TemplateID, fixed.TemplateRef
	return spec, nil
}
