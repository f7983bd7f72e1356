// Package host owns the virtual machines of one host: it boots, pauses,
// resumes and ends them, and lends out the running ones for commands and files.
//
// The RPC service (package rpc) calls it. It never talks to the control plane
// or its database: what it knows stands in its journal on disk, and what
// happens is told to whoever subscribes.
//
// # One goroutine owns each machine
//
// Lifecycle calls (pause, resume, destroy) and events (the VM's end, idle
// time) go through the machine's mailbox, one at a time. Commands and file
// transfers do not: they borrow the running guest by a lease. Pause closes the
// gate for new leases, gives the open ones a moment, then cuts them.
//
// # The journal comes first
//
// Before each step of an operation its name is written to the machine's
// record. After a crash, at any instruction, Open reads the records and either
// takes a machine over, rolls it back or rolls it forward:
//
//	create    rolled back: nothing had been acknowledged
//	pause     before pause.commit the VM goes on; from there on it is paused
//	resume    before resume.cont it is still paused; from there on it runs
//	destroy   rolled forward
//
// VMs do not end with the agent: Close leaves them running.
package host
