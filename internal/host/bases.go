package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// bases counts the machines that are based on each snapshot directory: they
// map its memory, or need it to come back from a pause.
//
// Invariants: a directory with users is never removed; one that is being
// removed gets no new user.
type bases struct {
	mu    sync.Mutex // protects the following
	users map[snapshotDir]int
}

// hold keeps dir from being removed. It fails if dir is not there.
func (b *bases) hold(dir snapshotDir) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := os.Stat(dir.manifest()); err != nil {
		return fault.Wrap(err, fault.NotFound, "snapshot_not_found", "the snapshot is not there any more")
	}
	b.users[dir]++
	return nil
}

func (b *bases) drop(dir snapshotDir) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.users[dir]--; b.users[dir] <= 0 {
		delete(b.users, dir)
	}
}

func (b *bases) count(dir snapshotDir) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.users[dir]
}

// claim renames dir for removal, unless a machine uses it. The new name marks
// the directory as garbage, also after a crash.
func (b *bases) claim(dir snapshotDir) (trash string, ok bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.users[dir] > 0 {
		return "", false, nil
	}
	trash = filepath.Join(filepath.Dir(string(dir)), trashPrefix+filepath.Base(string(dir)))
	err = os.Rename(string(dir), trash)
	if errors.Is(err, os.ErrNotExist) {
		return "", false, nil
	}
	return trash, err == nil, err
}

const trashPrefix = ".trash-"

// remove removes dir if nobody uses it, and reports whether it did.
func (b *bases) remove(dir snapshotDir) (bool, error) {
	trash, ok, err := b.claim(dir)
	if !ok || err != nil {
		return false, err
	}
	return true, os.RemoveAll(trash)
}

// holdBase makes m a user of dir, which becomes its base.
func (b *body) holdBase(dir snapshotDir) error {
	if err := b.mgr.bases.hold(dir); err != nil {
		return err
	}
	b.dropBase()
	b.held, b.rec.Base = dir, string(dir)
	return nil
}

// dropBase ends that use. The last user of a deleted snapshot takes it along.
func (b *body) dropBase() {
	dir := b.held
	if dir == "" {
		return
	}
	b.held = ""
	old := b.mgr.underOldBuild(dir)
	b.mgr.bases.drop(dir)
	if old && b.mgr.bases.count(dir) == 0 {
		defer b.mgr.collectSoon()
	}
	if _, err := os.Stat(dir.deleted()); err != nil {
		return
	}
	if _, err := b.mgr.bases.remove(dir); err != nil {
		b.log.Warn("could not remove a deleted snapshot; the next collection does", "dir", string(dir), "error", err)
	}
}

// base is the snapshot that the machine is based on.
func (b *body) base() snapshotDir { return snapshotDir(b.rec.Base) }

// manifestOf reads the manifest of a base. The error names the fault found.
func manifestOf(dir snapshotDir) (manifest, error) {
	data, err := os.ReadFile(dir.manifest())
	if err != nil {
		return manifest{}, errDamaged(err, "its manifest cannot be read")
	}
	mf, err := parseManifest(data)
	if err != nil {
		return manifest{}, errDamaged(err, "its manifest cannot be read")
	}
	return mf, nil
}

// checkBase refuses a base that is damaged or of another kind of machine,
// before any of it is loaded. Whole memories and disks are not read again: that
// they are the files that were sealed, by size and times, has to do.
func (m *Manager) checkBase(dir snapshotDir, spec sandbox.Spec) (manifest, error) {
	mf, err := manifestOf(dir)
	if err != nil {
		return mf, err
	}
	if err := m.checkFingerprint(mf.Fingerprint, spec); err != nil {
		return mf, err
	}
	for _, f := range m.driver.Files(vmm.Whole) {
		if err := mf.check(dir, f); err != nil {
			return mf, err
		}
	}
	if seal, err := sealOf(dir.disk()); err != nil || seal != mf.Disk {
		return mf, errDamaged(err, "its disk is not what was saved")
	}
	return mf, nil
}

// fileSeal tells a file from one that was changed or replaced since. A change
// moves the time of the last modification, which for these files nobody but
// root could set back. The seal of a summed file is its checksum alone.
type fileSeal struct {
	Bytes        int64  `json:"bytes,omitempty"`
	ModifiedNano int64  `json:"modified_nano,omitempty"`
	SHA256       string `json:"sha256,omitempty"`
}

func sealOf(path string) (fileSeal, error) {
	st, err := os.Stat(path)
	if err != nil {
		return fileSeal{}, err
	}
	return fileSeal{Bytes: st.Size(), ModifiedNano: st.ModTime().UnixNano()}, nil
}

// diskUsage is the space in bytes that dir takes, as far as it can be told.
func diskUsage(dir snapshotDir) uint64 {
	n, _ := disk.Usage(string(dir)) // 0 for what has gone meanwhile
	return uint64(n)
}

// seal makes a base durable and unchangeable, and writes its manifest last. Its
// files are root's alone, but for the shared ones of the driver, which VM
// processes open by name: those belong to a group of its own that only these
// processes are in; they never write them. A VMM that wants them writable all the
// same is only fit for a single tenant.
func (m *Manager) seal(ctx context.Context, dir snapshotDir, mf manifest, durable bool) error {
	files, paths := m.driver.Files(vmm.Whole), []string{dir.disk()}
	err := errors.Join(chown(dir.disk(), 0, 0), os.Chmod(dir.disk(), 0o400))
	for _, f := range files {
		path := dir.file(f.Name)
		group, mode := 0, os.FileMode(0o400)
		if f.Shared {
			group, mode = newReaders(), m.sharedMode(mf)
		}
		err = errors.Join(err, chown(path, 0, group), os.Chmod(path, mode))
		paths = append(paths, path)
	}
	if err == nil && durable {
		err = syncFiles(ctx, paths...)
	}
	if err != nil {
		return err
	}
	mf.Files = make(map[string]fileSeal)
	for _, f := range files {
		if mf.Files[f.Name], err = sealOf(dir.file(f.Name)); err != nil {
			return err
		}
	}
	if mf.Disk, err = sealOf(dir.disk()); err != nil {
		return err
	}
	return writeManifest(dir, mf, files, durable)
}

// sharedMode is the mode of the files of a snapshot that VM processes open.
func (m *Manager) sharedMode(mf manifest) os.FileMode {
	if m.writesMemory(mf.Fingerprint) {
		return 0o660
	}
	return 0o440
}
