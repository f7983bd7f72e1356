package reconcile

// SnapshotKind is the purpose of a snapshot.
type SnapshotKind string

// The kinds. The CHECK constraint of the snapshots table lists the same.
const (
	// KindNamed is made by a user, durable, and stays until it is deleted.
	KindNamed SnapshotKind = "named"
	// KindFork serves the children of one fork, is hidden from users, and is
	// deleted when they have started.
	KindFork SnapshotKind = "fork"
	// KindLayer is made after a step of a template's build, and KindTemplate at its end.
	// Both are durable, hidden from lists of snapshots, and stay until they are deleted.
	KindLayer    SnapshotKind = "layer"
	KindTemplate SnapshotKind = "template"
)

// SnapshotKinds lists every SnapshotKind.
func SnapshotKinds() []SnapshotKind {
	return []SnapshotKind{KindNamed, KindFork, KindLayer, KindTemplate}
}

// SnapshotStatus is the state of a snapshot's row.
//
//	Creating ──► Ready ──► Deleting ──► (no row)
//	    └──────────┴──► Error ──► Deleting, or (no row) after the retention
type SnapshotStatus string

// The statuses. The CHECK constraint of the snapshots table lists the same.
const (
	SnapshotCreating SnapshotStatus = "creating"
	SnapshotReady    SnapshotStatus = "ready"
	SnapshotDeleting SnapshotStatus = "deleting"
	// SnapshotError: the host does not have the snapshot.
	SnapshotError SnapshotStatus = "error"
)

// SnapshotStatuses lists every SnapshotStatus.
func SnapshotStatuses() []SnapshotStatus {
	return []SnapshotStatus{SnapshotCreating, SnapshotReady, SnapshotDeleting, SnapshotError}
}

// SnapshotRow is the part of a snapshot's row that the rules read.
type SnapshotRow struct {
	Status SnapshotStatus
	Kind   SnapshotKind
}

// ObservedSnapshot says that the host has the snapshot and has not deleted it.
type ObservedSnapshot struct{}

// SnapshotDecision is a Decision about a snapshot.
type SnapshotDecision = Decision[SnapshotStatus]

// Snapshots returns the rules for snapshots.
func Snapshots() Rules[SnapshotRow, ObservedSnapshot, SnapshotStatus] {
	return Rules[SnapshotRow, ObservedSnapshot, SnapshotStatus]{
		resolve: resolveSnapshot, definite: definiteSnapshot, class: classOfSnapshot,
	}
}

func classOfSnapshot(row *SnapshotRow, _ *ObservedSnapshot) Class {
	if row != nil && row.Kind == KindFork {
		return Fork
	}
	return Command
}

// definiteSnapshot accepts at once that the host has a durable snapshot. A row
// that is being deleted needs no grace period.
func definiteSnapshot(row *SnapshotRow, observed *ObservedSnapshot) bool {
	return row != nil && (row.Status == SnapshotDeleting || row.Kind != KindFork && observed != nil)
}

func resolveSnapshot(row *SnapshotRow, observed *ObservedSnapshot) SnapshotDecision {
	switch {
	case row == nil && observed == nil:
		return SnapshotDecision{Action: None}
	case row == nil:
		return SnapshotDecision{Action: Delete}
	case row.Status == SnapshotDeleting || row.Kind == KindFork:
		// The snapshot of a fork lives as long as the fork; a lasting one is a leftover.
		if observed == nil {
			return SnapshotDecision{Action: Remove}
		}
		return SnapshotDecision{Action: Delete}
	case observed == nil && row.Status != SnapshotError:
		return SnapshotDecision{Action: Move, To: SnapshotError}
	case observed != nil && row.Status != SnapshotReady:
		// The host finished it, or has it back after its disk was restored.
		return SnapshotDecision{Action: Move, To: SnapshotReady}
	default:
		return SnapshotDecision{Action: None}
	}
}
