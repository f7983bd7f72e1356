// Package fake is a VMM driver whose VMs live inside the test process.
//
// It needs no root, no kernel and no hypervisor, and passes the suite of
// package vmmtest. Tests of the host core use it, and nothing else does.
//
// # The model
//
// A [Host] stands for the physical host. It keeps the VM processes, so that
// they outlive every [Driver], as real VMs outlive the agent that started them.
// A guest runs the real guest agent behind in-process connections; only its
// privileged operations are those of agenttest. Commands are real processes of
// the test's user. They are not part of a snapshot: a restored guest has none.
//
// # Guest state
//
//   - Memory is a private mapping of a copy of its base's memory in this process.
//     It holds the agent's settings and a counter, so that package memory finds
//     and writes real dirty pages.
//   - The disk file holds an archive of the guest's files. It is written when the
//     virtual CPUs stop.
//   - Device state, memory and disk carry one stamp each, made new at every stop.
//     The disk loses its stamp when the virtual CPUs start. Restore refuses three
//     parts that do not belong together.
package fake
