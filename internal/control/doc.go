// Package control owns the use cases of the control plane: the steps of a create,
// pause, resume, destroy and of work in a sandbox, and the loops that bring the
// database and the hosts into agreement.
//
// The REST server and other edges call it through [API]; the process
// that wires everything runs [Service.Run]. The package defines the interfaces
// it consumes ([Store], [Fleet], [Host]) and knows neither SQL nor a wire
// format. It never talks to a guest, and it never shows an error to anybody.
//
// # Structure
//
// [Service] is a composition of use cases. Each of them is a type with a few methods,
// and declares the store methods that it needs as an interface of its own:
//
//	creator ─► templates, placer, booter      create.go, templates.go, place.go, boot.go
//	lifecycle                                 lifecycle.go, transition.go, autoresume.go
//	guestWork ─► lifecycle                    guest.go
//	forker, snapshots                         fork.go, snapshots.go
//	clocks, queries, system ─► inventory      clocks.go, queries.go, system.go
//	reconciler ─► snapshotReconciler          reconcile.go, hostloop.go, snapshotpass.go
//	machines ─► creator, snapshots            machine.go
//	presence, retention, activity             presence.go, retention.go, activity.go
//
// All of them change a sandbox's row through one rowReconciler (rowreconciler.go).
//
// # How the database and the hosts are kept in agreement
//
// Intent before action: a move is written first, by compare-and-set on
// (id, generation, state), and in the same transaction as the capacity it
// costs; then the host is called. An operation that loses a compare-and-set has
// been overtaken and undoes its own part.
//
// A host's answer is definite or its outcome is unknown ([OutcomeUnknown]).
// Nothing is concluded from an unknown outcome: the row stays in between
// (pending, pausing, resuming, stopping) until the host has been asked again.
//
//	row (desired state)    host's report (observed state)
//	              \            /
//	        package reconcile: decide          pure
//	             /       |       \
//	  move the row   destroy VM   nothing
//
// The reconciler makes a pass over each host every interval and after each event
// of a host, and carries the decisions out. A host that cannot be reached changes
// nothing, because its VMs may still run.
//
// # Snapshots, forks and clocks
//
// A snapshot has a row of its own, written before the host is asked for it and
// reconciled by the same code as sandboxes. A fork takes one that is
// hidden, starts every child from it and deletes it; the children's rows and
// that of the snapshot are written together or not at all.
//
// The row says which clocks a sandbox has, the host runs them, and a host that
// has others is told again by the next pass (clockpass.go). Use of a paused sandbox
// may resume it (autoresume.go): the compare-and-set makes one resume of many callers.
package control
