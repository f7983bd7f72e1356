package vmm

import "os"

// Shape holds the properties of a driver's VMs that the host works by. They are
// the same for every VM of the driver. The zero Shape is that of a VM which is
// restored paused, with a disk in a file of the host.
type Shape struct {
	// RestoresRunning: Restore returns a VM that runs. Otherwise it returns a
	// paused one. User processes of either are frozen by the guest's agent, if
	// they were when the VM was saved.
	RestoresRunning bool
	// DiskInSnapshot: the driver makes the writable disk, and saves and restores
	// it with the VM. Otherwise the disk is the file Config.Disk, which the host
	// makes, copies and restores, and the VM implements DiskCopier.
	DiskInSnapshot bool
	// DiskInMemory: the content of the writable disk takes memory of the host, and
	// none of its disk space while the VM lives. It needs DiskInSnapshot.
	DiskInMemory bool
	// DeltaIsWhole: a delta is complete, and its base is not needed to restore it.
	DeltaIsWhole bool
	// SharesMemory: VMs restored from one whole snapshot share the pages of it that
	// they have not written.
	SharesMemory bool
	// Attachment is the way in which a VM is connected to its network.
	Attachment Attachment
	// OverheadMB is the memory, in MiB, and OverheadCPUs the share of CPUs that a
	// VM process may use beside those of its guest.
	OverheadMB   int
	OverheadCPUs float64
	// GraceMB is the memory, in MiB, between the most that a VM may use and the limit
	// of its control group. The driver ends commands of a guest that uses it.
	GraceMB int
	// ProcessOverhead: each process of the guest is one of the host, with a thread
	// for each virtual CPU and up to ProcessOverhead other processes and threads. Zero
	// is a VM that shows the host none of the guest's processes.
	ProcessOverhead int
}

// HostMemoryMB is the most memory of the host, in MiB, that the guest of cfg can
// fill: its memory, and its disk where that is in memory. The overhead comes on
// top.
func (s Shape) HostMemoryMB(memoryMB, diskMB int) int {
	if s.DiskInMemory {
		return memoryMB + diskMB
	}
	return memoryMB
}

// vmmTasks is the most processes and threads that a VM process itself has.
const vmmTasks = 256

// HostTasks is the most processes and threads of the host that a VM may have. A guest
// within its limit of GuestTasks does not reach it: a userspace kernel that cannot
// start a thread ends.
func (s Shape) HostTasks(memoryMB, vcpus int) int {
	if s.ProcessOverhead == 0 {
		return vmmTasks
	}
	return vmmTasks + GuestTasks(memoryMB)*(vcpus+s.ProcessOverhead)
}

// GuestTasks is the most processes and threads that the users of a guest may have
// whose processes are those of the host.
func GuestTasks(memoryMB int) int { return min(128+memoryMB, 4096) }

// Attachment is a way to connect a VM to its network.
type Attachment string

// The attachments.
const (
	// AttachTap: the VM process gets a tap device, open.
	AttachTap Attachment = "tap"
	// AttachNamespace: the VM process joins a network namespace of its own and
	// takes over the device in it.
	AttachNamespace Attachment = "namespace"
)

// Network is the network of one VM: one device with the address MAC. The field of
// the driver's attachment is set.
type Network struct {
	// MAC is the address of the guest's device, the same for every VM.
	MAC string
	// OpenTap opens the host's side of the device. It is called once per start.
	OpenTap func() (*os.File, error)
	// Namespace is the path of the network namespace to join, for one start. Its only
	// device besides the loopback has the guest's addresses, routes and neighbours,
	// and is up. No other VM uses it.
	Namespace string
}
