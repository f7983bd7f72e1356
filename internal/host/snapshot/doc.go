// Package snapshot keeps the saved VMs of a host: the whole snapshots that VMs
// are restored from, called bases, and the deltas of paused sandboxes.
//
// A Store owns the manifests and seals of both, counts the users of each base,
// and collects the bases and the builds of the VMM that nothing needs. Package
// host is the only caller. It decides when a snapshot is taken and has a driver
// write the files; the names and the content of those are the driver's.
//
// # Life of a base
//
//	driver writes the files ── Seal ── Publish ──► Hold, Drop by its users
//	                                                  │ no user, and deleted or replaced
//	                                                  └──► Remove, or Collect
//
// # Guarantees
//
//  1. A directory with a manifest is complete, and never changes.
//  2. A base with users is never removed; one that is being removed gets no user.
//  3. A snapshot that has changed since it was saved is refused before it is loaded
//     (snapshot_damaged), and so is one of another kind of host
//     (snapshot_incompatible) or of a build of the VMM that is not kept
//     (vmm_build_missing).
package snapshot
