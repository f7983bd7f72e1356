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

// diskUse is a measurement of the host's disk. It is taken without mu, since a
// file system that is slow or hangs must not stop every other call.
type diskUse struct {
	free uint64 // bytes
	// written is the size of each disk in bytes, by path; a sandbox that is
	// missing has written nothing, as far as is known.
	written map[string]int64
	err     error
}

// measureDisk measures the disk. mu must not be held.
func (m *Manager) measureDisk() diskUse {
	use := diskUse{written: make(map[string]int64)}
	if _, use.free, use.err = disk.Space(m.cfg.Dir); use.err != nil {
		return use
	}
	for _, v := range m.List() {
		if n, err := disk.Usage(v.diskPath); err == nil {
			use.written[v.diskPath] = n
		}
	}
	return use
}

// checkReserve is disk.CheckReserve with the space that was measured.
func (u diskUse) checkReserve(reserve uint64) error {
	if u.err != nil {
		return u.err
	}
	return disk.CheckFree(u.free, reserve)
}

// diskRoomMB returns how much disk new sandboxes may still be promised, in MiB;
// negative when more has been promised already.
func (m *Manager) diskRoomMB() (int, error) {
	use := m.measureDisk()
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.diskRoomLocked(use), use.err
}

// diskRoomLocked is diskRoomMB by use, a measurement without an error. mu must
// be held.
func (m *Manager) diskRoomLocked(use diskUse) int {
	var promised int64
	for _, mc := range m.machines {
		if v := mc.snapshotView(); v.State != sandbox.Stopped {
			promised += max(int64(m.promisedDiskMB(v.Spec))*mib-use.written[v.diskPath], 0)
		}
	}
	return int((int64(float64(use.free)*m.cfg.DiskOvercommit) - promised) / mib)
}

// promisedDiskMB is the disk space, in MiB, that the disk of a sandbox may take.
func (m *Manager) promisedDiskMB(spec sandbox.Spec) int {
	if m.shapeOf(spec).DiskInMemory {
		return 0
	}
	return spec.DiskMB
}

// admitDiskLocked refuses a sandbox whose disk may grow by more than there is
// to promise. mu must be held.
func (m *Manager) admitDiskLocked(spec sandbox.Spec, use diskUse) error {
	room := m.diskRoomLocked(use)
	if need := m.promisedDiskMB(spec); need > 0 && need > room {
		return fault.New(fault.NoCapacity, "no_disk",
			"the host can promise %d MB more of disk space, and the sandbox asks for %d MB: ask for a smaller disk, destroy sandboxes, or raise --disk-overcommit",
			max(room, 0), spec.DiskMB)
	}
	return nil
}
