package host

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/snapshot"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Stranded is a build of a VMM that is neither kept nor installed, with the
// sandboxes and snapshots that cannot be started without it.
type Stranded struct {
	// Driver is the name of the driver that started it. Version and Binary (a digest)
	// name the build.
	Driver, Version, Binary string
	// Sandboxes were saved under it, or run under it and cannot be paused.
	Sandboxes []sandbox.ID
	Snapshots []sandbox.SnapshotID
}

// FindStranded returns the sandboxes and snapshots in the data directory dir that
// need a build of a VMM which is not available. kept reports whether the build that a
// fingerprint names is available. FindStranded works beside an agent and without one,
// and changes nothing.
func FindStranded(dir string, kept func(fingerprint map[string]string) bool) ([]Stranded, error) {
	f := strandedFinder{layout: layoutOf(dir), kept: kept, found: make(map[string]*Stranded)}
	if err := errors.Join(f.sandboxes(), f.snapshots()); err != nil {
		return nil, err
	}
	out := make([]Stranded, 0, len(f.found))
	for _, s := range f.found {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b Stranded) int { return cmp.Compare(a.Binary, b.Binary) })
	return out, nil
}

type strandedFinder struct {
	layout layout
	kept   func(fingerprint map[string]string) bool
	found  map[string]*Stranded // by digests of the build
}

// missing returns the entry of the build that the base dir was saved under, or
// nil where that is kept.
func (f *strandedFinder) missing(dir snapshot.Dir) *Stranded {
	mf, err := snapshot.ReadManifest(dir)
	if err != nil {
		return nil // damaged, or removed meanwhile: not a matter of builds
	}
	saved := mf.Fingerprint
	if f.kept(saved) {
		return nil
	}
	key := saved[vmm.FingerprintBinary] + "/" + saved[vmm.FingerprintFirmware]
	if f.found[key] == nil {
		f.found[key] = &Stranded{Driver: saved["driver"], Version: saved[vmm.FingerprintVersion], Binary: saved[vmm.FingerprintBinary]}
	}
	return f.found[key]
}

func (f *strandedFinder) sandboxes() error {
	entries, err := os.ReadDir(f.layout.machines())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		rec, err := journal.Read(filepath.Join(f.layout.machines(), e.Name()))
		if err != nil || rec.Pooled || rec.State == sandbox.Stopped || rec.Base == "" {
			continue
		}
		if s := f.missing(snapshot.Dir(f.layout.today(rec.Base))); s != nil {
			s.Sandboxes = append(s.Sandboxes, rec.ID)
		}
	}
	return nil
}

func (f *strandedFinder) snapshots() error {
	entries, err := os.ReadDir(f.layout.snapshots())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		dir := snapshot.Dir(filepath.Join(f.layout.snapshots(), e.Name()))
		if _, err := os.Stat(dir.Deleted()); err == nil || snapshot.IsRemains(string(dir)) {
			continue
		}
		if s := f.missing(dir); s != nil {
			s.Snapshots = append(s.Snapshots, sandbox.SnapshotID(e.Name()))
		}
	}
	return nil
}
