package placement_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wrenn-dev/wrenn/internal/control/placement"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// usual returns a host that takes everything small.
func usual(id string, change ...func(*placement.Host)) placement.Host {
	h := placement.Host{
		ID: id, Reachable: true, Isolation: sandbox.IsolationProcess,
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
	kvm := func(h *placement.Host) { h.Isolation, h.MultiTenant = sandbox.IsolationHardware, true }
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
		"cpus full":        {small(), []placement.Host{usual("a", busy)}, "no_capacity", ""},
		"less loaded":      {small(), []placement.Host{usual("a", half), usual("b")}, "b", ""},
		"share, not size":  {small(), []placement.Host{usual("a", big, half), usual("b", half)}, "b", ""},
		"tie":              {small(), []placement.Host{usual("b"), usual("a")}, "a", ""},
		"template":         {demand(func(s *sandbox.Spec) { s.Template = "x" }), []placement.Host{usual("a")}, "template_not_found", "minimal"},
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
		i, err := placement.Choose(c.demand, c.hosts)
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
	_, err := placement.Choose(small(), []placement.Host{usual("a", func(h *placement.Host) { h.Templates = names })})
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
				h.MultiTenant = rapid.Bool().Draw(t, "multi")
				h.Limits.MaxVCPUs = rapid.IntRange(0, 4).Draw(t, "max vcpus")
				h.FreeMemoryMB = rapid.IntRange(-100, 2048).Draw(t, "memory")
				h.FreeVCPUs = rapid.IntRange(-1, 4).Draw(t, "vcpus")
			}))
		}
		d := small(func(d *placement.Demand) {
			d.MultiTenant = rapid.Bool().Draw(t, "tenants")
			d.HostID = rapid.SampledFrom([]string{"", "0", "1"}).Draw(t, "host")
			d.Spec.VCPUs = rapid.IntRange(1, 5).Draw(t, "vcpus")
			d.Spec.MemoryMB = rapid.IntRange(64, 2048).Draw(t, "memory")
		})
		can := func(h placement.Host) bool {
			return (d.HostID == "" || d.HostID == h.ID) && h.Reachable && !h.Draining && (h.MultiTenant || !d.MultiTenant) &&
				d.Spec.ValidateFor(h.Limits) == nil && h.FreeMemoryMB >= d.Spec.MemoryMB && h.FreeVCPUs >= d.Spec.VCPUs
		}
		any := false
		for _, h := range hosts {
			any = any || can(h)
		}
		i, err := placement.Choose(d, hosts)
		if (err == nil) != any {
			t.Fatalf("chose %d, %v; possible %t", i, err, any)
		}
		if err == nil && !can(hosts[i]) {
			t.Fatalf("chose %+v for %+v", hosts[i], d)
		}
	})
}
