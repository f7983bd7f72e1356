// Package gvisor is the driver that runs a sandbox on gVisor: a kernel in user
// space (the sentry) that serves the guest's system calls, on any Linux machine.
//
// A sandbox is one process "runsc-sandbox" with the stub processes that hold the
// guest's memory. It is started by the program runsc, of which package runsc keeps
// the builds. The driver starts and restores with the command line of runsc, and talks
// to the running sentry through its control socket.
//
//	<dir>/config.json      the OCI specification (https://github.com/opencontainers/runtime-spec)
//	<dir>/runsc-vm.sock    the sentry's control socket
//	<dir>/vm_sandbox*      runsc's own record of the sandbox
//	<dir>/console          a FIFO: the standard output of the guest's first process
//
// # Guarantees
//
//  1. The processes run under the user ids of the sandbox, in namespaces of their
//     own, with an empty root directory.
//  2. Saving never ends a sandbox: a failed save leaves it paused, and it can be
//     resumed (TestDriver).
//  3. A damaged, truncated or foreign snapshot is refused before a process starts
//     (TestCheckNamesTheDamage).
//  4. The guest sees its own memory, CPUs and disk, on hosts with control groups of
//     either version (TestSizes). All file systems in memory have limits
//     (TestFullFileSystems).
//  5. A process outlives the agent, and a later agent finds and adopts it.
//  6. A sandbox that uses the most memory that it may loses its largest command, and
//     goes on (TestForkBombsOnABusyHost, TestHostEndsCommands).
//
// # Limits
//
// A restored sandbox runs at once: runsc cannot start one paused. The agent of the
// guest therefore stops user processes before every save. The writable disk is in
// memory and is part of every snapshot. MemFree and MemAvailable in the guest's
// /proc/meminfo count its files as used, so that they are 0 if there are more files
// than memory. Time advances while a sandbox is saved: the
// monotonic clock advances with the host's.
package gvisor
