// Package placement chooses the host for a new sandbox. It is pure: the control
// plane passes the known facts of the hosts and gets a choice or the reason why
// there is none. It reserves nothing; the numbers may be outdated, and the store
// decides.
package placement

import (
	"cmp"
	"slices"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Host holds the facts of a host that placement needs. The last report of an
// unreachable host still counts to validate the request, not to take it.
type Host struct {
	ID        string
	Reachable bool
	Draining  bool
	// Runtimes are the runtimes that it offers, the preferred one first.
	Runtimes  []Runtime
	Limits    sandbox.Limits
	Templates []string
	// TotalMemoryMB is the memory for sandboxes; FreeMemoryMB and FreeVCPUs are
	// the free parts. Free may be negative on a host that has shrunk.
	TotalMemoryMB, FreeMemoryMB, FreeVCPUs int
	// FreeDiskMB is how much disk may still be promised.
	FreeDiskMB int
}

// Runtime is a runtime that a host offers.
type Runtime struct {
	Name         sandbox.Runtime
	Acceleration string
	Isolation    sandbox.Isolation
	MultiTenant  bool
	// DiskMemoryShare is the memory that a sandbox is promised for each MiB of its
	// disk, in MiB; 0 where disks are not in memory.
	DiskMemoryShare float64
}

// Demand is a sandbox's requirements of its host.
type Demand struct {
	Spec sandbox.Spec
	// MultiTenant leaves out runtimes that are fit for one tenant only.
	MultiTenant bool
	// HostID is the only host that can serve, because it has the snapshot; its
	// templates do not matter then. Empty is any.
	HostID string
}

// Choose returns the index of the host that has the largest share of its
// memory free among those which can take d, and the runtime that d gets there, the
// host's first that meets d; the lower id wins a tie.
//
// Errors, the first that applies: HostFailed when no host has ever been heard
// of; Unsupported when no known host offers d's runtime; Invalid when no known
// host, however empty, could take d (the message names
// the limits); HostFailed when those which could cannot be reached; NoCapacity
// when they are full or draining, with the reason no_disk when only the disk that
// they can promise is too little.
func Choose(d Demand, hosts []Host) (int, Runtime, error) {
	fit, err := suitable(d, hosts)
	if err != nil {
		return 0, Runtime{}, err
	}
	fit = keep(fit, func(i int) bool { return hosts[i].Reachable })
	if len(fit) == 0 {
		return 0, Runtime{}, unreachable()
	}
	fit = keep(fit, func(i int) bool {
		h := hosts[i]
		return !h.Draining && h.FreeMemoryMB >= d.memoryOn(h) && h.FreeVCPUs >= d.Spec.VCPUs
	})
	if len(fit) == 0 {
		return 0, Runtime{}, fault.New(fault.NoCapacity, "no_capacity",
			"no host has %d vcpus and %d MB of memory free; pause or destroy sandboxes, or try again later", d.Spec.VCPUs, d.Spec.MemoryMB)
	}
	fit = keep(fit, func(i int) bool { return hosts[i].FreeDiskMB >= d.Spec.DiskMB })
	if len(fit) == 0 {
		return 0, Runtime{}, fault.New(fault.NoCapacity, "no_disk",
			"no host can promise %d MB of disk space; ask for a smaller disk, or destroy sandboxes", d.Spec.DiskMB)
	}
	best := slices.MinFunc(fit, func(a, b int) int { return compareLoad(hosts[a], hosts[b]) })
	runtime, _ := d.runtimeOn(hosts[best])
	return best, runtime, nil
}

// suitable returns the hosts that could take d if they were empty.
func suitable(d Demand, hosts []Host) ([]int, error) {
	var fit []int
	for i, h := range hosts {
		if h.Limits.MaxVCPUs > 0 { // it has reported
			fit = append(fit, i)
		}
	}
	if len(fit) == 0 {
		return nil, unreachable()
	}
	fit, err := having(d, hosts, fit)
	if err != nil {
		return nil, err
	}
	if fit, err = offering(d, hosts, fit); err != nil {
		return nil, err
	}
	wide := widest(hosts, fit)
	fit = keep(fit, func(i int) bool { return d.Spec.ValidateFor(hosts[i].Limits) == nil })
	if len(fit) > 0 {
		return fit, nil
	}
	if err := d.Spec.ValidateFor(wide); err != nil {
		return nil, err
	}
	return nil, fault.New(fault.Invalid, "invalid_size",
		"no host allows %d vcpus together with %d MB of memory", d.Spec.VCPUs, d.Spec.MemoryMB)
}

// having returns the known hosts that have d's template or snapshot.
func having(d Demand, hosts []Host, known []int) ([]int, error) {
	if d.HostID != "" {
		fit := keep(known, func(i int) bool { return hosts[i].ID == d.HostID })
		if len(fit) == 0 {
			return nil, unreachable()
		}
		return fit, nil
	}
	fit := keep(known, func(i int) bool { return slices.Contains(hosts[i].Templates, d.Spec.Template) })
	if len(fit) == 0 {
		return nil, unknownTemplate(d.Spec.Template, hosts, known)
	}
	return fit, nil
}

// compareLoad orders by share of free memory, most first, then by id.
func compareLoad(a, b Host) int {
	// a.free/a.total against b.free/b.total, without division.
	return cmp.Or(
		cmp.Compare(int64(b.FreeMemoryMB)*int64(a.TotalMemoryMB), int64(a.FreeMemoryMB)*int64(b.TotalMemoryMB)),
		strings.Compare(a.ID, b.ID),
	)
}

// widest returns the limits of several hosts put together, for messages.
func widest(hosts []Host, which []int) sandbox.Limits {
	l := hosts[which[0]].Limits
	for _, i := range which[1:] {
		l.MaxVCPUs = max(l.MaxVCPUs, hosts[i].Limits.MaxVCPUs)
		l.MinMemoryMB = min(l.MinMemoryMB, hosts[i].Limits.MinMemoryMB)
		l.MaxMemoryMB = max(l.MaxMemoryMB, hosts[i].Limits.MaxMemoryMB)
	}
	return l
}

// maxNamed bounds how many templates a message lists.
const maxNamed = 20

func unknownTemplate(name string, hosts []Host, known []int) error {
	var names []string
	for _, i := range known {
		names = append(names, sandbox.PublicTemplates(hosts[i].Templates)...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	list := strings.Join(names[:min(len(names), maxNamed)], ", ")
	switch {
	case len(names) == 0:
		list = "none"
	case len(names) > maxNamed:
		list += ", ..."
	}
	if slices.Contains(sandbox.BuiltInTemplates(), name) {
		return fault.New(fault.Invalid, "template_not_found",
			"the built-in template %s is prepared on no host; run \"wrenn image build %s\" on one; there are: %s", name, name, list)
	}
	return fault.New(fault.Invalid, "template_not_found", "there is no such template; there are: %s", list)
}

func unreachable() error {
	return fault.New(fault.HostFailed, "host_unreachable", "no host agent can be reached")
}

func keep(which []int, ok func(int) bool) []int {
	var out []int
	for _, i := range which {
		if ok(i) {
			out = append(out, i)
		}
	}
	return out
}
