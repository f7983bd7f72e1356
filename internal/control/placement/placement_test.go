package placement_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wrenn-dev/wrenn/internal/control/placement"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Runtimes that hosts offer.
var (
	emulated = placement.Runtime{Name: sandbox.RuntimeMicroVM, Acceleration: "tcg", Isolation: sandbox.IsolationProcess}
	hardware = placement.Runtime{Name: sandbox.RuntimeMicroVM, Acceleration: "kvm", Isolation: sandbox.IsolationHardware, MultiTenant: true}
	gvisor   = placement.Runtime{Name: sandbox.RuntimeGVisor, Isolation: sandbox.IsolationUserspaceKernel, MultiTenant: true, DiskMemoryShare: 0.25}
)

// usual returns a host that takes everything small.
func usual(id string, change ...func(*placement.Host)) placement.Host {
	h := placement.Host{
		ID: id, Reachable: true, Runtimes: []placement.Runtime{emulated},
		Limits:    sandbox.Limits{MaxVCPUs: 4, MinMemoryMB: 128, MaxMemoryMB: 4096},
		Templates: []string{"minimal"}, TotalMemoryMB: 8192, FreeMemoryMB: 8192, FreeVCPUs: 64, FreeDiskMB: 65536,
	}
	for _, f := range change {
		f(&h)
	}
	return h
}

func small(change ...func(*placement.Demand)) placement.Demand {
	d := placement.Demand{Spec: sandbox.Spec{}.WithDefaults()}
	for _, f := range change {
		f(&d)
	}
	return d
}

func TestChoose(t *testing.T) {
	down := func(h *placement.Host) { h.Reachable = false }
	drained := func(h *placement.Host) { h.Draining = true }
	kvm := func(h *placement.Host) { h.Runtimes = []placement.Runtime{hardware} }
	sentry := func(h *placement.Host) { h.Runtimes = []placement.Runtime{gvisor} }
	full := func(h *placement.Host) { h.FreeMemoryMB = 511 }
	busy := func(h *placement.Host) { h.FreeVCPUs = 0 }
	promised := func(h *placement.Host) { h.FreeDiskMB = 0 }
	half := func(h *placement.Host) { h.FreeMemoryMB = 4096 }
	shrunk := func(h *placement.Host) { h.FreeMemoryMB = -512 }
	big := func(h *placement.Host) {
		h.Limits, h.TotalMemoryMB = sandbox.Limits{MaxVCPUs: 16, MinMemoryMB: 256, MaxMemoryMB: 65536}, 65536
	}
	demand := func(f func(*sandbox.Spec)) placement.Demand {
		return small(func(d *placement.Demand) { f(&d.Spec) })
	}
	on := func(id string) placement.Demand {
		return small(func(d *placement.Demand) { d.HostID = id })
	}
	for name, c := range map[string]struct {
		demand placement.Demand
		hosts  []placement.Host
		want   string // the id of a host, or the reason of an error
		says   string
	}{
		"none":           {small(), nil, "host_unreachable", ""},
		"never heard of": {small(), []placement.Host{{ID: "a"}}, "host_unreachable", ""},
		"down":           {small(), []placement.Host{usual("a", down)}, "host_unreachable", ""},
		"one down":       {small(), []placement.Host{usual("a", down), usual("b")}, "b", ""},
		"disk promised":  {small(), []placement.Host{usual("a", promised)}, "no_disk", ""},
		"one promised":   {small(), []placement.Host{usual("a", promised), usual("b")}, "b", ""},
		"draining":       {small(), []placement.Host{usual("a", drained)}, "no_capacity", ""},
		"its host":       {on("b"), []placement.Host{usual("a"), usual("b", half)}, "b", ""},
		"its host has no such image": {on("b"), []placement.Host{
			usual("a"), usual("b", func(h *placement.Host) { h.Templates = nil }),
		}, "b", ""},
		"its host is full": {on("b"), []placement.Host{usual("a"), usual("b", full)}, "no_capacity", ""},
		"its host is down": {on("b"), []placement.Host{usual("a"), usual("b", down)}, "host_unreachable", ""},
		"its host is gone": {on("b"), []placement.Host{usual("a")}, "host_unreachable", ""},
		"memory full":      {small(), []placement.Host{usual("a", full)}, "no_capacity", "512 MB"},
		"shrunk":           {small(), []placement.Host{usual("a", shrunk)}, "no_capacity", ""},
		"disk in memory":   {small(), []placement.Host{usual("a", sentry, func(h *placement.Host) { h.FreeMemoryMB = 1023 })}, "no_capacity", ""},
		"it fits":          {small(), []placement.Host{usual("a", sentry, func(h *placement.Host) { h.FreeMemoryMB = 1024 })}, "a", ""},
		"cpus full":        {small(), []placement.Host{usual("a", busy)}, "no_capacity", ""},
		"less loaded":      {small(), []placement.Host{usual("a", half), usual("b")}, "b", ""},
		"share, not size":  {small(), []placement.Host{usual("a", big, half), usual("b", half)}, "b", ""},
		"tie":              {small(), []placement.Host{usual("b"), usual("a")}, "a", ""},
		"template":         {demand(func(s *sandbox.Spec) { s.Template = "x" }), []placement.Host{usual("a")}, "template_not_found", "minimal"},
		"built in":         {demand(func(s *sandbox.Spec) { s.Template = "base" }), []placement.Host{usual("a")}, "template_not_found", "wrenn image build base"},
		"template of down": {demand(func(s *sandbox.Spec) { s.Template = "x" }), []placement.Host{usual("a", down)}, "template_not_found", ""},
		"vcpus":            {demand(func(s *sandbox.Spec) { s.VCPUs = 5 }), []placement.Host{usual("a")}, "invalid_vcpus", "from 1 to 4"},
		"vcpus elsewhere":  {demand(func(s *sandbox.Spec) { s.VCPUs = 5 }), []placement.Host{usual("a"), usual("b", big)}, "b", ""},
		"widest is named":  {demand(func(s *sandbox.Spec) { s.VCPUs = 17 }), []placement.Host{usual("a"), usual("b", big)}, "invalid_vcpus", "from 1 to 16"},
		"memory":           {demand(func(s *sandbox.Spec) { s.MemoryMB = 64 }), []placement.Host{usual("a"), usual("b", big)}, "invalid_memory", "from 128 to 65536"},
		"not together":     {demand(func(s *sandbox.Spec) { s.VCPUs, s.MemoryMB = 5, 128 }), []placement.Host{usual("a"), usual("b", big)}, "invalid_size", ""},
		"isolation":        {demand(func(s *sandbox.Spec) { s.MinIsolation = sandbox.IsolationHardware }), []placement.Host{usual("a")}, "isolation_unavailable", "hardware"},
		"isolation kvm":    {demand(func(s *sandbox.Spec) { s.MinIsolation = sandbox.IsolationHardware }), []placement.Host{usual("a"), usual("b", kvm)}, "b", ""},
		"tenants":          {small(func(d *placement.Demand) { d.MultiTenant = true }), []placement.Host{usual("a")}, "isolation_unavailable", "several tenants"},
		"tenants kvm":      {small(func(d *placement.Demand) { d.MultiTenant = true }), []placement.Host{usual("a"), usual("b", kvm)}, "b", ""},
	} {
		i, _, err := placement.Choose(c.demand, c.hosts)
		got := fault.ReasonOf(err)
		if err == nil {
			got = c.hosts[i].ID
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if err != nil && !strings.Contains(fault.As(err).Public, c.says) {
			t.Errorf("%s: %q does not say %q", name, fault.As(err).Public, c.says)
		}
	}
}

func TestTemplatesNamedAreBounded(t *testing.T) {
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf("t%03d", i))
	}
	_, _, err := placement.Choose(small(func(d *placement.Demand) { d.Spec.Template = "x" }), []placement.Host{usual("a", func(h *placement.Host) { h.Templates = names })})
	if public := fault.As(err).Public; len(public) > 200 || !strings.HasSuffix(public, "...") {
		t.Errorf("%d bytes: %s", len(public), public)
	}
}

// TestChoiceCanTakeIt draws fleets and demands: every chosen host can take the
// demand, and no demand is refused for capacity that a host has.
func TestChoiceCanTakeIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var hosts []placement.Host
		for i := range rapid.IntRange(0, 4).Draw(t, "hosts") {
			hosts = append(hosts, usual(fmt.Sprint(i), func(h *placement.Host) {
				h.Reachable = rapid.Bool().Draw(t, "reachable")
				h.Draining = rapid.Bool().Draw(t, "draining")
				h.Runtimes = rapid.SliceOfN(rapid.SampledFrom([]placement.Runtime{emulated, hardware, gvisor}), 0, 2).Draw(t, "runtimes")
				h.Limits.MaxVCPUs = rapid.IntRange(0, 4).Draw(t, "max vcpus")
				h.FreeMemoryMB = rapid.IntRange(-100, 2048).Draw(t, "memory")
				h.FreeVCPUs = rapid.IntRange(-1, 4).Draw(t, "vcpus")
			}))
		}
		d := small(func(d *placement.Demand) {
			d.MultiTenant = rapid.Bool().Draw(t, "tenants")
			d.HostID = rapid.SampledFrom([]string{"", "0", "1"}).Draw(t, "host")
			d.Spec.Runtime = rapid.SampledFrom([]sandbox.Runtime{"", sandbox.RuntimeMicroVM, sandbox.RuntimeGVisor}).Draw(t, "runtime")
			d.Spec.MinIsolation = rapid.SampledFrom(append(sandbox.Isolations(), "")).Draw(t, "isolation")
			d.Spec.VCPUs = rapid.IntRange(1, 5).Draw(t, "vcpus")
			d.Spec.MemoryMB = rapid.IntRange(64, 2048).Draw(t, "memory")
		})
		meets := func(r placement.Runtime) bool {
			return (d.Spec.Runtime == "" || d.Spec.Runtime == r.Name) && r.Isolation.Meets(d.Spec.MinIsolation) &&
				(r.MultiTenant || !d.MultiTenant)
		}
		can := func(h placement.Host) bool {
			i := slices.IndexFunc(h.Runtimes, meets)
			if i < 0 {
				return false
			}
			memory := d.Spec.MemoryMB + int(h.Runtimes[i].DiskMemoryShare*float64(d.Spec.DiskMB))
			return (d.HostID == "" || d.HostID == h.ID) && h.Reachable && !h.Draining &&
				d.Spec.ValidateFor(h.Limits) == nil && h.FreeMemoryMB >= memory && h.FreeVCPUs >= d.Spec.VCPUs
		}
		any := false
		for _, h := range hosts {
			any = any || can(h)
		}
		i, runtime, err := placement.Choose(d, hosts)
		if (err == nil) != any {
			t.Fatalf("chose %d, %v; possible %t", i, err, any)
		}
		if err == nil && (!can(hosts[i]) || !meets(runtime) || !slices.Contains(hosts[i].Runtimes, runtime)) {
			t.Fatalf("chose %+v of %+v for %+v", runtime, hosts[i], d)
		}
	})
}

// TestChoosesARuntime: a sandbox gets the host's first runtime that it accepts, and a
// refusal says whether the runtime or its isolation is missing.
func TestChoosesARuntime(t *testing.T) {
	both := usual("a", func(h *placement.Host) { h.Runtimes = []placement.Runtime{gvisor, emulated} })
	for name, c := range map[string]struct {
		host    placement.Host
		runtime sandbox.Runtime
		least   sandbox.Isolation
		tenants bool
		want    placement.Runtime
		reason  string
		says    string
	}{
		"any":               {host: both, want: gvisor},
		"named":             {host: both, runtime: sandbox.RuntimeMicroVM, want: emulated},
		"first that is fit": {host: usual("a", func(h *placement.Host) { h.Runtimes = []placement.Runtime{emulated, gvisor} }), least: sandbox.IsolationUserspaceKernel, want: gvisor},
		"tenants":           {host: usual("a", func(h *placement.Host) { h.Runtimes = []placement.Runtime{emulated, gvisor} }), tenants: true, want: gvisor},
		"not offered":       {host: usual("a"), runtime: sandbox.RuntimeGVisor, reason: "runtime_unavailable", says: "there are: microvm"},
		"too weak":          {host: both, runtime: sandbox.RuntimeMicroVM, least: sandbox.IsolationUserspaceKernel, reason: "isolation_unavailable", says: "under the runtime microvm"},
		"too weak, any":     {host: both, least: sandbox.IsolationHardware, reason: "isolation_unavailable", says: "required isolation (at least"},
		"no runtime at all": {host: usual("a", func(h *placement.Host) { h.Runtimes = nil }), runtime: sandbox.RuntimeGVisor, reason: "runtime_unavailable", says: "there are: none"},
	} {
		d := small(func(d *placement.Demand) {
			d.Spec.Runtime, d.Spec.MinIsolation, d.MultiTenant = c.runtime, c.least, c.tenants
		})
		_, got, err := placement.Choose(d, []placement.Host{c.host})
		if got != c.want || fault.ReasonOf(err) != c.reason || err != nil && !strings.Contains(fault.As(err).Public, c.says) {
			t.Errorf("%s: %+v, %v; want %+v, %s", name, got, err, c.want, c.reason)
		}
	}
}
