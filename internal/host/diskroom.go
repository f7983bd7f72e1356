package host

import (
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Disks of sandboxes are sparse: each is promised its size, and takes space as
// the guest writes. Promised space that is not written yet is counted against
// the free space, so that the same space is not promised many times by mistake.
// Blocks that a disk shares with a copy count as written.

const mib = 1 << 20

// diskRoomMB returns how much disk new sandboxes may still be promised, in MiB;
// negative when more has been promised already.
func (m *Manager) diskRoomMB() (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.diskRoomLocked()
}

// diskRoomLocked is diskRoomMB. mu must be held.
func (m *Manager) diskRoomLocked() (int, error) {
	_, free, err := disk.Space(m.cfg.Dir)
	if err != nil {
		return 0, err
	}
	var promised int64
	for _, mc := range m.machines {
		if v := mc.snapshotView(); v.State != sandbox.Stopped {
			promised += unwritten(v)
		}
	}
	return int((int64(float64(free)*m.cfg.DiskOvercommit) - promised) / mib), nil
}

// unwritten returns the number of bytes by which v's disk may still grow.
func unwritten(v Sandbox) int64 {
	written, err := disk.Usage(v.diskPath)
	if err != nil {
		written = 0 // it has none yet
	}
	return max(int64(v.Spec.DiskMB)*mib-written, 0)
}

// admitDiskLocked refuses a sandbox whose disk may grow by more than there is
// to promise. mu must be held.
func (m *Manager) admitDiskLocked(spec sandbox.Spec) error {
	room, err := m.diskRoomLocked()
	if err != nil {
		return err
	}
	if spec.DiskMB > room {
		return fault.New(fault.NoCapacity, "no_disk",
			"the host can promise %d MB more of disk space, and the sandbox asks for %d MB: ask for a smaller disk, destroy sandboxes, or raise --disk-overcommit",
			max(room, 0), spec.DiskMB)
	}
	return nil
}
