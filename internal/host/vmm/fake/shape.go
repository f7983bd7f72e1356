package fake

import "github.com/wrenn-dev/wrenn/internal/host/vmm"

// The shapes that a fake driver can have.
var (
	// Mapped is the shape of New: guest memory is a mapped file of the base, a
	// delta holds the pages that differ, and the disk is a file of the host.
	Mapped = vmm.Shape{SharesMemory: true, Attachment: vmm.AttachTap}
	// Checkpointed VMs are saved whole each time, with their disk, and run as soon
	// as they are restored.
	Checkpointed = vmm.Shape{
		RestoresRunning: true, DiskInSnapshot: true, DiskInMemory: true, DeltaIsWhole: true, Attachment: vmm.AttachNamespace,
		OverheadMB: 64,
	}
)
