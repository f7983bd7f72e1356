package snapshot

import (
	"context"
	"errors"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/durable"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Seal tells a file from one that was changed or replaced since. A change
// moves the time of the last modification, which for these files nobody but
// root could set back. The seal of a summed file is its checksum alone.
type Seal struct {
	Bytes        int64  `json:"bytes,omitempty"`
	ModifiedNano int64  `json:"modified_nano,omitempty"`
	SHA256       string `json:"sha256,omitempty"`
}

func sealOf(path string) (Seal, error) {
	st, err := os.Stat(path)
	if err != nil {
		return Seal{}, err
	}
	return Seal{Bytes: st.Size(), ModifiedNano: st.ModTime().UnixNano()}, nil
}

// CheckBase refuses a base that is damaged or was saved with another shape than
// spec's, before any of it is loaded. It does not read whole memories and disks
// again: size and modification time must be those of the sealed files.
func (s *Store) CheckBase(dir Dir, spec sandbox.Spec) (Manifest, error) {
	mf, err := ReadManifest(dir)
	if err != nil {
		return mf, err
	}
	if err := s.CheckFingerprint(mf.Fingerprint, spec); err != nil {
		return mf, err
	}
	driver, err := s.Drivers.Saved(mf.Fingerprint)
	if err != nil {
		return mf, err
	}
	for _, f := range baseFiles(driver, mf) {
		if err := mf.check(dir, f); err != nil {
			return mf, err
		}
	}
	if mf.Boot {
		return mf, nil
	}
	for _, path := range diskFiles(driver, dir) {
		if seal, err := sealOf(path); err != nil || seal != mf.Disk {
			return mf, ErrDamaged(err, "its disk is not what was saved")
		}
	}
	return mf, nil
}

// baseFiles returns the driver's files in the base with mf. Restores of a VM that has
// booted read only those that are shared.
func baseFiles(driver vmm.Driver, mf Manifest) []vmm.File {
	if mf.DiskOnly && !driver.Info().Shape.DiskInSnapshot {
		return nil
	}
	files := driver.Files(vmm.Whole)
	if mf.Boot {
		files = slices.DeleteFunc(files, func(f vmm.File) bool { return !f.Shared })
	}
	return files
}

// deltaFiles returns the driver's files in the delta with mf.
func deltaFiles(driver vmm.Driver, mf Manifest) []vmm.File {
	if mf.DiskOnly && !driver.Info().Shape.DiskInSnapshot {
		return nil
	}
	return driver.Files(vmm.Delta)
}

// diskFiles returns the disks in the base dir: one, or none where the driver saves
// the disk with the VM.
func diskFiles(driver vmm.Driver, dir Dir) []string {
	if driver.Info().Shape.DiskInSnapshot {
		return nil
	}
	return []string{dir.Disk()}
}

// CheckDelta refuses a delta that is damaged or was saved with another shape than
// spec's, before any of it is loaded. The driver checks the rest as it loads it.
func (s *Store) CheckDelta(dir Dir, spec sandbox.Spec) (Manifest, error) {
	mf, err := ReadManifest(dir)
	if err != nil {
		return mf, err
	}
	if err := s.CheckFingerprint(mf.Fingerprint, spec); err != nil {
		return mf, err
	}
	driver, err := s.Drivers.Saved(mf.Fingerprint)
	if err != nil {
		return mf, err
	}
	for _, f := range driver.Files(vmm.Delta) {
		if !f.Summed {
			continue
		}
		if err := mf.check(dir, f); err != nil {
			return mf, err
		}
	}
	cfg := sizeOf(spec)
	cfg.RootImage, cfg.RootDigest = mf.RootImage, mf.TemplateDigest
	if cfg.Build, err = driver.BuildOf(mf.Fingerprint); err != nil {
		return mf, err
	}
	if err := driver.CheckDelta(cfg, string(dir)); err != nil {
		return mf, ErrDamaged(err, "its memory is not what was saved")
	}
	return mf, nil
}

// Seal makes a base durable and unchangeable, and writes its manifest last. Its
// files are root's alone, but for the shared ones of the driver, which VM
// processes open by name: those belong to a group of its own that only these
// processes are in; they never write them. A VMM that wants them writable all the
// same is only fit for a single tenant.
func (s *Store) Seal(ctx context.Context, dir Dir, mf Manifest, durably bool) error {
	driver, err := s.Drivers.Saved(mf.Fingerprint)
	if err != nil {
		return err
	}
	files, paths := baseFiles(driver, mf), diskFiles(driver, dir)
	if mf.Boot {
		paths = nil
	}
	disks := slices.Clone(paths)
	for _, path := range paths {
		err = errors.Join(err, disk.Chown(path, 0, 0), os.Chmod(path, 0o400))
	}
	for _, f := range files {
		path := dir.File(f.Name)
		group, mode := 0, os.FileMode(0o400)
		if f.Shared {
			group, mode = newReaders(), s.sharedMode(mf)
		}
		err = errors.Join(err, disk.Chown(path, 0, group), os.Chmod(path, mode))
		paths = append(paths, path)
	}
	if err == nil && durably {
		err = syncFiles(ctx, paths...)
	}
	if err != nil {
		return err
	}
	mf.Files = make(map[string]Seal)
	for _, f := range files {
		if mf.Files[f.Name], err = sealOf(dir.File(f.Name)); err != nil {
			return err
		}
	}
	for _, path := range disks {
		if mf.Disk, err = sealOf(path); err != nil {
			return err
		}
	}
	return writeManifest(dir, mf, files, durably)
}

// sharedMode is the mode of the files of a snapshot that VM processes open.
func (s *Store) sharedMode(mf Manifest) os.FileMode {
	if s.writesMemory(mf.Fingerprint) {
		return 0o660
	}
	return 0o440
}

// SealDelta writes the manifest of a delta and makes its files durable, together
// with those of others.
func (s *Store) SealDelta(ctx context.Context, dir Dir, mf Manifest, others ...string) error {
	driver, err := s.Drivers.Saved(mf.Fingerprint)
	if err != nil {
		return err
	}
	files := deltaFiles(driver, mf)
	if err := writeManifest(dir, mf, files, false); err != nil {
		return err
	}
	paths := append([]string{dir.Manifest(), dir.ManifestSum()}, others...)
	for _, f := range files {
		paths = append(paths, dir.File(f.Name))
	}
	if err := syncFiles(ctx, paths...); err != nil {
		return err
	}
	return durable.Sync(string(dir))
}

// syncFiles makes the content of files durable, all at once: most of the time
// each takes is the disk's, and that can do several.
func syncFiles(ctx context.Context, paths ...string) error {
	group, _ := errgroup.WithContext(ctx)
	for _, path := range paths {
		group.Go(func() error { return fault.Caught(func() error { return durable.Sync(path) }) })
	}
	return group.Wait()
}
