// Package host runs the sandboxes of one host. It creates, pauses, resumes,
// snapshots, forks and destroys them, and lends their running guests to commands
// and file transfers.
//
// Package rpc calls it. It never talks to the control plane or its database: it
// keeps its state in the journal on disk, and subscribers receive its events.
//
// # Rooms
//
//   - host (this package): the actor of each sandbox, operations, admission, the
//     warm pool, recovery after a restart.
//   - journal: the record of each sandbox, and the steps of each operation.
//   - instance: one VM with its directory, network slot, control group and guest
//     client. It has no identity, so that a warm clone's instance can be moved
//     into the sandbox that takes it.
//   - snapshot: bases, pauses, their manifests and users, and garbage collection.
//   - vmm: the contract of a driver, which saves and restores VMs.
//
// # Concurrency
//
// One goroutine owns each sandbox. Lifecycle calls (pause, resume, snapshot,
// destroy) and events (the end of the VM, a timeout) go through the sandbox's
// mailbox, one at a time. Commands and file transfers do not: they use the running
// guest under a lease. Pause refuses new leases, waits a moment for the open
// ones, then cuts them.
//
// # Recovery
//
// The name of each step is written to the sandbox's record before the step
// begins. After a crash, at any instruction, Open reads the records and takes each
// sandbox over, rolls its operation back or rolls it forward:
//
//	create    rolled back, because nothing was acknowledged
//	pause     before pause.commit the VM continues; after it the sandbox is paused
//	resume    before resume.cont the sandbox is paused; after it the sandbox runs,
//	          or is paused again if it cannot run and its pause was not changed
//	snapshot  the VM continues; the snapshot exists if snapshot.commit was done
//	pool      the warm clone is ended and removed
//	destroy   rolled forward
//
// VMs outlive the agent: Close leaves those of sandboxes running, and ends warm
// clones.
//
// # End of a sandbox
//
// A sandbox ends by Destroy, by a timeout, or with its VM process. It is reported
// as stopped as soon as the VM is gone, even if some of its resources could not be
// freed yet, and then accepts nothing but Destroy. A panic in an operation ends
// that operation with an error, and the sandbox returns to its last committed
// state.
//
// A guest that does not answer ends nothing. Its sandbox keeps running and reports
// the guest as unresponsive in its Health. Pause and Snapshot need the guest's
// help and fail with guest_unresponsive within seconds, unless they are forced.
// Commands and transfers under way are cut with an unknown outcome after six times
// GuestTimeout. A guest that may be sealed, or may have the identity of a
// snapshot, is reconfigured as soon as it answers; no command reaches it before.
//
// # Where sandboxes come from
//
//	image + kernel ── cold boot ──► template snapshot ──┬─ restore ──► sandbox
//	                                                    └─ restore, warm up ──► warm clone ── assign ──► sandbox
//	sandbox ── pause ──► delta over its base ── resume ──► the same sandbox
//	sandbox ── snapshot ──► named snapshot ── restore ──► another sandbox (fork)
//
// Before user code runs in a restored sandbox, configure gives its guest a new
// identity and measures its clock.
package host
