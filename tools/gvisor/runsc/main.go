// Command runsc is gVisor's runsc with three changes. It has the system call filter of
// its sentries as a finished BPF program, and collects no garbage while it starts: both
// make it start faster. Its sentries begin some system calls again that gVisor lets fail
// with EINTR after a pause (restart.go).
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
	"runtime"
	"runtime/debug"
	"sync"
	"time"
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

func main() {
	quietStart()
	maincli.Main()
}

// quietStart spares a process the collection of garbage while it starts or restores a
// sentry, which would take a quarter of its CPU time. It ends with the first
// collection, or after startTime, when the garbage of the start is collected and given
// back to the host.
func quietStart() {
	debug.SetGCPercent(startHeap / leastHeap * usual)
	settle := sync.OnceFunc(func() { debug.SetGCPercent(usual) })
	runtime.AddCleanup(new(*byte), func(func()) { settle() }, settle)
	time.AfterFunc(startTime, func() { settle(); debug.FreeOSMemory() })
}

const (
	// usual is the growth of the heap, in percent, after which garbage is collected.
	// The guest agent's watch over the memory counts on it.
	usual = 100
	// startHeap is the size of the heap, in bytes, at the first collection. The memory
	// that a host sets aside beside that of the guest has room for it.
	startHeap = 24 << 20
	// leastHeap is the size, in bytes, at which Go collects garbage first if GOGC is
	// usual (https://go.dev/doc/gc-guide).
	leastHeap = 4 << 20
	// startTime is longer than a start takes on a machine that is not overloaded.
	startTime = time.Second
)
