// Package host owns the virtual machines of one host: it makes, pauses, resumes,
// copies and ends them, and lends out the running ones for commands and files.
//
// The RPC service (package rpc) calls it. It never talks to the control plane
// or its database: its knowledge is in its journal on disk, and subscribers
// receive its events.
//
// # One goroutine owns each machine
//
// Lifecycle calls (pause, resume, snapshot, destroy) and events (the VM's end,
// a clock that has run out) go through the machine's mailbox, one at a time. Commands and file
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
//	resume    before resume.cont it is still paused; from there on it runs, or
//	          is paused again if it cannot and its disk is still whole
//	snapshot  the VM goes on; the snapshot is there if snapshot.commit was done
//	pool      ended and removed: a warm clone is nobody's yet
//	destroy   rolled forward
//
// VMs do not end with the agent: Close leaves them running, but for warm clones.
//
// # End of a machine
//
// Only Destroy, a clock, and the end of its VM process. A machine whose VM is
// gone is reported as stopped at once, also while some of its resources could not
// be freed yet, and accepts nothing but destroy. A panic in an operation, or in
// one of its steps, ends the operation with an error; the machine returns to its
// last state.
//
// A guest that does not answer ends nothing: its machine runs on and says so in
// its Health. Pause and snapshot need the guest's help, and fail with
// guest_unresponsive in seconds, unless they are forced. Commands and transfers
// under way are cut with an unknown outcome after six times GuestTimeout. A
// guest that may be sealed, or may still have the identity of a snapshot, is
// renewed as soon as it answers; no command reaches it before.
//
// # Origins of machines
//
//	image + kernel ── cold boot ──► template snapshot ──┬─ restore ──► machine
//	                                                    └─ restore, warm up ──► warm clone ── assign ──► machine
//	machine ── pause ──► difference from its base ── resume ──► the same machine
//	machine ── snapshot ──► named snapshot ── restore ──► another machine (fork)
//
// Every restored machine is renewed and measured before user code runs in it, see
// configure.
package host
