// Package boot is the first process of the guest, and the agent's access to the
// guest's kernel.
//
// Init is PID 1: it loads modules, mounts the root, sets up cgroups and the
// network, runs the agent, reaps orphans and powers off:
//
//	modules ─► disks ─► overlay ─► switch root ─► cgroups ─► network ─► agent
//	                                                                   │  ▲
//	a failed step: one line on the console, power off  died: restart   └──┘
//
// Platform is the system that the agent changes afterwards (agent.Platform). The
// command wrenn-guest is the only caller. The package never serves a request and
// never runs a user's command.
//
// # Root in the guest
//
// Users may be root, and no file of the guest is out of their reach. They must not run
// between the restore of a copy and its renewal: Users freezes them, also where they have
// left their cgroup, run in containers, or wait for a file system in user space (stuck).
// Where the kernel has no freezer, holder stops them from Init. Both reach the kernel
// through mounts that users cannot cover (kernelFiles). Files that the agent writes for
// users by their names, such as /etc/hostname, and devices such as /dev/ptmx can be
// covered, which harms their own guest alone.
//
// # Known limit
//
// A clone cannot change the key from which its kernel derives TCP sequence
// numbers, timestamps and the order of source ports: Linux draws it once and has
// no call to draw it again. If two clones open a connection between the same
// addresses and ports, their initial numbers differ only by their clocks, one
// step every 64 ns. They are not equal, because Configure sets the clock before
// user code runs, but from one clone's number another's can be computed. Each
// guest is behind an address translation of its own, so that no two clones
// share an address.
package boot
