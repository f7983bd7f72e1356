package host

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
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
	var mf manifest
	if err := json.Unmarshal(data, &mf); err != nil {
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
	for _, f := range []struct {
		path string
		want fileSeal
		what string
	}{
		{dir.memory(), mf.Memory, "its memory file is not what was saved"},
		{dir.disk(), mf.Disk, "its disk is not what was saved"},
	} {
		if seal, err := sealOf(f.path); err != nil || seal != f.want {
			return mf, errDamaged(err, f.what)
		}
	}
	if sum, err := sha256File(dir.state()); err != nil || sum != mf.StateSHA256 {
		return mf, errDamaged(err, "its device state is not what was saved")
	}
	return mf, nil
}

// fileSeal tells a file from one that was changed or replaced since: a change
// moves the time of the last modification, which for these files nobody but
// root could set back.
type fileSeal struct {
	Bytes        int64 `json:"bytes"`
	ModifiedNano int64 `json:"modified_nano"`
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

// seal makes a base durable and unchangeable, and writes its manifest last.
// Disk and device state are root's alone. The memory, which VMM processes open
// by name, belongs to a group of its own that only they are in; they map it and
// never write it. A VMM that wants it writable all the same is only fit for a
// single tenant.
func (m *Manager) seal(ctx context.Context, dir snapshotDir, mf manifest, durable bool) error {
	mode := os.FileMode(0o440)
	if m.writesMemory(mf.Fingerprint) {
		mode = 0o660
	}
	err := errors.Join(
		chown(dir.memory(), 0, newReaders()), os.Chmod(dir.memory(), mode),
		chown(dir.disk(), 0, 0), os.Chmod(dir.disk(), 0o400),
		chown(dir.state(), 0, 0), os.Chmod(dir.state(), 0o400))
	if err != nil {
		return err
	}
	if durable {
		if err := syncFiles(ctx, dir.memory(), dir.disk(), dir.state()); err != nil {
			return err
		}
	}
	var err1, err2 error
	mf.Memory, err1 = sealOf(dir.memory())
	mf.Disk, err2 = sealOf(dir.disk())
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	return writeManifest(dir, mf, durable)
}
