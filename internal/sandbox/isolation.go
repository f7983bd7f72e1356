package sandbox

import (
	"fmt"
	"slices"
	"strings"
)

// Isolation is the kind of boundary between a guest and its host.
type Isolation string

// The isolation levels, weakest first.
const (
	// IsolationProcess: the CPU is emulated in software, so only the
	// confinement of the VMM process separates guest and host.
	IsolationProcess Isolation = "process"
	// IsolationUserspaceKernel: a kernel that runs as a confined process of the
	// host serves the guest's system calls.
	IsolationUserspaceKernel Isolation = "userspace_kernel"
	// IsolationHardware: a hardware-assisted virtual machine.
	IsolationHardware Isolation = "hardware"
)

// Isolations returns the isolation levels, weakest first.
func Isolations() []Isolation {
	return []Isolation{IsolationProcess, IsolationUserspaceKernel, IsolationHardware}
}

// Meets reports whether i is at least as strong as minimum. An empty minimum
// is met by everything; an unknown one by nothing.
func (i Isolation) Meets(minimum Isolation) bool {
	if minimum == "" {
		return true
	}
	need := slices.Index(Isolations(), minimum)
	return need >= 0 && slices.Index(Isolations(), i) >= need
}

// Runtime is the technology that a sandbox runs on.
type Runtime string

// The runtimes.
const (
	// RuntimeMicroVM: a virtual machine with a Linux kernel of its own.
	RuntimeMicroVM Runtime = "microvm"
	// RuntimeGVisor: gVisor, a userspace kernel with the system calls of Linux.
	RuntimeGVisor Runtime = "gvisor"
)

// Runtimes returns the runtimes.
func Runtimes() []Runtime { return []Runtime{RuntimeMicroVM, RuntimeGVisor} }

// alternatives lists values for a message: "a", "b" or "c".
func alternatives[T ~string](values []T) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = fmt.Sprintf("%q", string(v))
	}
	last := len(quoted) - 1
	return strings.Join(quoted[:last], ", ") + " or " + quoted[last]
}
