package vmm

import (
	"context"
	"os"
)

// DiskCopier copies the writable disk of a VM while the guest runs. The VMs of a
// driver without Shape.DiskInSnapshot implement it, because only the VMM sees the
// guest's writes meanwhile.
type DiskCopier interface {
	// BeginDiskCopy begins to copy the VM's writable disk to the empty file
	// dst, which is as long as the disk and open for reading and writing, and
	// returns once the copy keeps up with the guest's writes. The guest
	// continues, also when dst runs out of space. There is one copy at a time; one
	// that is still under way is abandoned. On error there is none.
	BeginDiskCopy(ctx context.Context, dst *os.File) error
	// EndDiskCopy ends the copy of a paused VM: dst then equals the disk, holes
	// included, and is not yet durable. On error the copy is of no use and still
	// has to be abandoned.
	EndDiskCopy(ctx context.Context) error
	// AbandonDiskCopy ends a copy that is under way, if there is one, also one
	// that an earlier agent has begun. Adopt does so by itself.
	AbandonDiskCopy(ctx context.Context) error
}
