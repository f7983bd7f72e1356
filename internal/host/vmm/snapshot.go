package vmm

import (
	"context"
	"errors"
)

// A driver saves a VM in one of two forms, each a directory that the caller
// creates. The names and the content of the files are the driver's. A disk that is a
// file of the host is the caller's and is not part of it.
//
//	whole  Save        any number of VMs can be restored from it
//	delta  SaveDelta   the changes of the VM since the whole snapshot that it was
//	                   restored from; it is restored together with that snapshot
//
// A driver that cannot save a difference writes a delta that is complete, and
// ignores the base when it restores it (Shape.DeltaIsWhole). The host keeps the base
// all the same, because it names the build of the VM.

// An Image names a saved VM.
type Image struct {
	// Base is the directory of a whole snapshot.
	Base string
	// Delta is the directory of a delta over Base; empty is Base itself.
	Delta string
}

// Form is the form of a snapshot.
type Form int

// The forms.
const (
	Whole Form = iota
	Delta
)

// SaveStats describes a saved VM; sizes are in bytes.
type SaveStats struct {
	// Dirty is the size of the memory that the VM has changed since it was
	// restored, or booted; Kept is the part of that in the delta.
	Dirty, Kept int64
}

// File is one file of a snapshot.
type File struct {
	Name string // in the snapshot's directory
	Noun string // for messages: "device state"
	// Shared files of a whole snapshot are opened by name by the VM processes
	// that are restored from it. The others are for root alone.
	Shared bool
	// Summed files are small, and the caller checks their content before each
	// restore. The driver checks the content of the others, as far as it can.
	Summed bool
}

// ErrDamaged is wrapped by errors about a snapshot whose content has changed
// since it was saved.
var ErrDamaged = errors.New("the saved VM is damaged")

// Save is a whole snapshot of a VM in the making. One goroutine uses it.
type Save interface {
	// Ahead copies the present content while the VM runs, so that Finish has
	// less to do. It is not required.
	Ahead(ctx context.Context) error
	// Finish completes the snapshot with the content of the paused VM, which
	// stays paused and can be resumed. The files are not yet durable.
	Finish(ctx context.Context) (SaveStats, error)
	// Close closes the files of the save. It comes last, also after a failure. The caller removes the directory of an unfinished snapshot.
	Close() error
}
