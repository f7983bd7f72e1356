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
// What a machine made from a snapshot cannot change is the key from which its
// kernel makes TCP sequence numbers, timestamps and its order of source ports:
// Linux draws it once, and has no call that draws it again. Two clones that open
// a connection between the same addresses and ports therefore begin at numbers
// that differ by their clocks alone, a step of one every 64 ns: they are not
// equal, since Configure sets the clock before anything of the user's runs, but
// who knows one clone's can work out another's. Each machine is behind an
// address translation of its own, so that no two share an address.
//
// Machine, Identity, Users and Memory are the agent's hands on the kernel
// afterwards. The command wrenn-guest is the only caller. The package never
// serves a request and never runs a user's command.
package boot
