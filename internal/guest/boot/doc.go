// Package boot does what the first process of a machine must do, and what only
// the machine's root may ask of its kernel.
//
// Init is PID 1: it loads modules, mounts the root, sets up the network and
// control groups, runs the agent, reaps orphans and powers off:
//
//	modules ─► disks ─► overlay ─► switch root ─► cgroups ─► network ─► agent
//	                                                                   │  ▲
//	a failed step: one line on the console, power off       died: again └──┘
//
// Machine, Identity, Users and Memory are the agent's hands on the kernel
// afterwards. The command wrenn-guest is the only caller. The package never
// serves a request and never runs a user's command.
package boot
