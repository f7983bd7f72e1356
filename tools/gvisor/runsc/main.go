// Command runsc is gVisor's runsc with the system call filter of its sentries as a
// finished BPF program.
//
// The Go module of gVisor has none: each sentry computes its filter when it starts or
// restores, which takes about 30 ms of CPU time. gVisor's own releases are built with
// finished programs, by a tool that the module lacks. Here ../precompile writes them,
// and a build that replaces programs.go with its output has them. A sentry whose
// options have no finished program computes its filter, as without them.
//
// The filter is the same in both cases: gVisor's code computes it from gVisor's rules.
package main

import (
	_ "unsafe" // for go:linkname

	"gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp"
	"gvisor.dev/gvisor/runsc/boot/filter"
	"gvisor.dev/gvisor/runsc/cli/maincli"
)

// registered is the table in which a sentry looks for its filter.
//
//go:linkname registered gvisor.dev/gvisor/runsc/boot/filter.precompiledPrograms
var registered map[string]precompiledseccomp.Program

func init() {
	filter.ListPrecompiled() // makes the table, once
	for _, p := range programs() {
		registered[p.Name] = p
	}
}

func main() { maincli.Main() }
