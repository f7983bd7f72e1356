// Package cgroup puts each VMM process into control groups of its own, to
// bound its memory, CPU time and processes, to know whether the kernel killed
// it for memory, and to kill everything that it may have started.
//
// The host manager creates a group before it starts a VMM and removes it after
// the VMM is gone. Groups live below a directory of the manager's name at the
// top of each hierarchy, not below the agent's own group, so that a service
// manager that restarts the agent does not end the VMs with it. The package
// works with cgroup v2, with v1 controllers beside an empty v2 hierarchy
// (hybrid), and with v1 alone; where none can be used its groups do nothing
// and Kind says so. It never starts a process.
package cgroup
