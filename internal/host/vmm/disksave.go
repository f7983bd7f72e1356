package vmm

import (
	"context"
	"errors"
)

// ErrDiskTooLarge is wrapped by the error of DiskSaver.SaveDisk for a disk with more
// content than a VM of its size is sure to boot from.
var ErrDiskTooLarge = errors.New("the disk has more content than a VM can boot from")

// DiskSaver saves the content of the writable disk alone. The VMs of a driver with
// Shape.DiskInSnapshot implement it, because no file of the host has that content.
type DiskSaver interface {
	// SaveDisk writes the content of the paused VM's disk to the new file path, from
	// which Driver.Start boots (Config.DiskContent). The file never has more than
	// BootableBytes, holes in the guest's files included, and is not yet durable. On
	// error the VM may have ended, so that the caller needs another copy of the content.
	SaveDisk(ctx context.Context, path string) error
	// BootableBytes is the most content of a disk, in bytes, from which a VM of this size
	// is sure to boot: the VMM may need several times as much memory meanwhile.
	BootableBytes() int64
}
