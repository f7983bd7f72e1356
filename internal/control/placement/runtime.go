package placement

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// runtimeOn returns the first runtime of h that meets d.
func (d Demand) runtimeOn(h Host) (Runtime, bool) {
	i := slices.IndexFunc(h.Runtimes, func(r Runtime) bool {
		return d.named(r) && r.Isolation.Meets(d.Spec.MinIsolation) && (r.MultiTenant || !d.MultiTenant)
	})
	if i < 0 {
		return Runtime{}, false
	}
	return h.Runtimes[i], true
}

// memoryOn is the memory, in MiB, that the sandbox of d would be promised on h.
func (d Demand) memoryOn(h Host) int {
	runtime, _ := d.runtimeOn(h)
	return d.Spec.MemoryMB + int(math.Ceil(float64(d.Spec.DiskMB)*runtime.DiskMemoryShare))
}

// named reports whether r is the runtime that d asks for.
func (d Demand) named(r Runtime) bool { return d.Spec.Runtime == "" || d.Spec.Runtime == r.Name }

// offering returns the hosts among known with a runtime that meets d.
func offering(d Demand, hosts []Host, known []int) ([]int, error) {
	fit := keep(known, func(i int) bool { _, ok := d.runtimeOn(hosts[i]); return ok })
	if len(fit) > 0 {
		return fit, nil
	}
	if !slices.ContainsFunc(known, func(i int) bool { return slices.ContainsFunc(hosts[i].Runtimes, d.named) }) {
		return nil, fault.New(fault.Unsupported, "runtime_unavailable",
			"no host offers the runtime %q; there are: %s%s", d.Spec.Runtime, offeredBy(hosts, known), wayTo(d.Spec.Runtime))
	}
	runtime := ""
	if d.Spec.Runtime != "" {
		runtime = " under the runtime " + string(d.Spec.Runtime)
	}
	return nil, fault.New(fault.Invalid, "isolation_unavailable",
		"no host has the required isolation%s (at least %q%s); the list of hosts shows the isolation of each", runtime,
		cmp.Or(d.Spec.MinIsolation, sandbox.IsolationProcess), map[bool]string{true: ", fit for several tenants"}[d.MultiTenant])
}

// wayTo says how an operator adds a runtime to a host, for a message.
func wayTo(r sandbox.Runtime) string {
	if r != sandbox.RuntimeGVisor {
		return ""
	}
	return "; run \"make runsc\" on a host, or start it with --runsc, and restart its agent"
}

// offeredBy lists the runtimes of hosts, for a message.
func offeredBy(hosts []Host, which []int) string {
	var names []string
	for _, i := range which {
		for _, r := range hosts[i].Runtimes {
			names = append(names, string(r.Name))
		}
	}
	slices.Sort(names)
	return cmp.Or(strings.Join(slices.Compact(names), ", "), "none")
}
