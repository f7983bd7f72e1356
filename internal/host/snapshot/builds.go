package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// A VM and everything that is saved of it stay with one build of the VMM from
// the VM's base on: a base is restored under the build that it was saved under,
// and every snapshot of a VM carries the build of its base. An upgrade of the VMM therefore affects new templates only. A kept build
// is garbage once it is not the current one and no base was saved under it.

// BuildOf returns the ID of the kept build that the base dir was saved under.
func (s *Store) BuildOf(dir Dir) (string, error) {
	mf, err := ReadManifest(dir)
	if err != nil {
		return "", err
	}
	driver, err := s.Drivers.Saved(mf.Fingerprint)
	if err != nil {
		return "", err
	}
	return driver.BuildOf(mf.Fingerprint)
}

// CheckFingerprint refuses a snapshot that was saved under a build that is not
// kept, or on another kind of host. The error names the difference.
func (s *Store) CheckFingerprint(saved map[string]string, spec sandbox.Spec) error {
	driver, err := s.Drivers.Saved(saved)
	if err != nil {
		return err
	}
	build, err := driver.BuildOf(saved)
	if err != nil {
		return err
	}
	return vmm.CheckFingerprint(saved, Fingerprint(driver, spec, build))
}

// keptBuild describes the kept build that saved names.
func (s *Store) keptBuild(saved map[string]string) (vmm.Build, bool) {
	driver, err := s.Drivers.Saved(saved)
	if err != nil {
		return vmm.Build{}, false
	}
	id, err := driver.BuildOf(saved)
	if err != nil {
		return vmm.Build{}, false
	}
	builds, err := driver.Builds()
	i := slices.IndexFunc(builds, func(b vmm.Build) bool { return b.ID == id })
	if err != nil || i < 0 {
		return vmm.Build{}, false
	}
	return builds[i], true
}

// writesMemory reports whether the build that saved names has to open the memory
// files that VMs share for writing.
func (s *Store) writesMemory(saved map[string]string) bool {
	b, ok := s.keptBuild(saved)
	return ok && b.WritesMemory
}

// UnderOldBuild reports whether the base dir was saved under a build that is
// only kept for such bases.
func (s *Store) UnderOldBuild(dir Dir) bool {
	mf, err := ReadManifest(dir)
	if err != nil {
		return false
	}
	b, ok := s.keptBuild(mf.Fingerprint)
	return ok && !b.Current
}

// garbageBuild is the kind of a kept build.
const garbageBuild = "vmm_build"

// unneededBuilds returns the kept builds that only the bases in leaving, or
// none at all, were saved under. Builds outside the data directory may be
// shared with other agents, and are never among them.
func (s *Store) unneededBuilds(leaving []Garbage) (out []Garbage) {
	needed, err := s.neededBuilds(leaving)
	for _, d := range s.Drivers {
		builds, listErr := d.Builds()
		if err = errors.Join(err, listErr); err != nil {
			s.Log.Warn("cannot tell which builds of the VMM are needed; all are kept", "error", err)
			return nil
		}
		name := d.Info().Driver
		for _, b := range builds {
			if b.Current || needed[buildKey{name, b.ID}] || !strings.HasPrefix(b.Dir, s.Root+"/") {
				continue
			}
			out = append(out, Garbage{
				Kind: garbageBuild, ID: b.ID, Bytes: uint64(b.Bytes), loose: true, driver: d,
				Reason: fmt.Sprintf("%s %s was replaced, and nothing that was saved under it is left", name, b.Version),
			})
		}
	}
	return out
}

// buildKey names a build of a driver.
type buildKey struct{ driver, id string }

// reasonBuildMissing is the reason of a build that is not kept, see vmm.Driver.
const reasonBuildMissing = "vmm_build_missing"

// neededBuilds returns the builds of all bases but those that are leaving. Sandboxes
// that run or are paused, warm clones and snapshots that are being taken hold the base
// whose build they have. A base whose manifest cannot be read, or whose build cannot be
// told, hides its build, so that it is an error.
func (s *Store) neededBuilds(leaving []Garbage) (map[buildKey]bool, error) {
	gone := make(map[Dir]bool, len(leaving))
	for _, g := range leaving {
		gone[g.dir] = true
	}
	needed := make(map[buildKey]bool)
	for _, dir := range s.allBases() {
		if gone[dir] {
			continue
		}
		mf, err := ReadManifest(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		driver, err := s.Drivers.Saved(mf.Fingerprint)
		if err != nil {
			continue // none of these drivers keeps its build
		}
		id, err := driver.BuildOf(mf.Fingerprint)
		switch {
		case err == nil:
			needed[buildKey{driver.Info().Driver, id}] = true
		case fault.ReasonOf(err) != reasonBuildMissing:
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
	}
	return needed, nil
}

// allBases returns the directories of all bases that are complete, those that
// sandboxes use first: a base in use stays for as long as it is.
func (s *Store) allBases() (dirs []Dir) {
	s.mu.Lock()
	for dir := range s.users {
		dirs = append(dirs, dir)
	}
	s.mu.Unlock()
	for _, parent := range []string{s.Named, s.SharedTemplates} {
		names, _ := filepath.Glob(filepath.Join(parent, "*")) // fails for bad patterns alone
		for _, name := range names {
			if !IsRemains(name) || s.isTaking(filepath.Base(name)) {
				dirs = append(dirs, Dir(name))
			}
		}
	}
	return dirs
}

// Fingerprint is that of a VM of spec under a kept build, or under the current
// one if build is empty.
func Fingerprint(driver vmm.Driver, spec sandbox.Spec, build string) map[string]string {
	cfg := sizeOf(spec)
	cfg.Build = build
	return driver.Fingerprint(cfg)
}

// sizeOf is the part of a VM's configuration that is known without its resources.
func sizeOf(spec sandbox.Spec) vmm.Config {
	return vmm.Config{VCPUs: spec.VCPUs, MemoryMB: spec.MemoryMB, DiskMB: spec.DiskMB}
}
