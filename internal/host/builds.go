package host

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
// the machine's base on: a base is restored under the build that it was saved
// under, and every snapshot of a machine carries the build of the machine's
// base. An upgrade of the VMM therefore affects new templates only. A kept build
// is garbage once it is not the current one and no base was saved under it.

// buildOf returns the ID of the kept build that the base dir was saved under.
func (m *Manager) buildOf(dir snapshotDir) (string, error) {
	mf, err := manifestOf(dir)
	if err != nil {
		return "", err
	}
	return m.driver.BuildOf(mf.Fingerprint)
}

// checkFingerprint refuses a snapshot that was saved under a build that is not
// kept, or on another kind of host. The error names the difference.
func (m *Manager) checkFingerprint(saved map[string]string, spec sandbox.Spec) error {
	build, err := m.driver.BuildOf(saved)
	if err != nil {
		return err
	}
	return vmm.CheckFingerprint(saved, m.fingerprint(spec, build))
}

// keptBuild describes the kept build that saved names.
func (m *Manager) keptBuild(saved map[string]string) (vmm.Build, bool) {
	id, err := m.driver.BuildOf(saved)
	if err != nil {
		return vmm.Build{}, false
	}
	builds, err := m.driver.Builds()
	i := slices.IndexFunc(builds, func(b vmm.Build) bool { return b.ID == id })
	if err != nil || i < 0 {
		return vmm.Build{}, false
	}
	return builds[i], true
}

// writesMemory reports whether the build that saved names has to open the memory
// files that VMs share for writing.
func (m *Manager) writesMemory(saved map[string]string) bool {
	b, ok := m.keptBuild(saved)
	return ok && b.WritesMemory
}

// underOldBuild reports whether the base dir was saved under a build that is
// only kept for such bases.
func (m *Manager) underOldBuild(dir snapshotDir) bool {
	mf, err := manifestOf(dir)
	if err != nil {
		return false
	}
	b, ok := m.keptBuild(mf.Fingerprint)
	return ok && !b.Current
}

// collectSoon collects garbage in the background.
func (m *Manager) collectSoon() {
	m.running.Go(func() {
		err := fault.Caught(func() error {
			_, err := m.CollectGarbage(m.life, false)
			return err
		})
		if err != nil && m.life.Err() == nil {
			m.log.Warn("could not remove everything that an old build of the VMM was kept for", "error", err)
		}
	})
}

// garbageBuild is the kind of a kept build.
const garbageBuild = "vmm_build"

// unneededBuilds returns the kept builds that only the bases in leaving, or
// none at all, were saved under. Builds outside the data directory may be
// shared with other agents, and are never among them.
func (m *Manager) unneededBuilds(leaving []Garbage) []Garbage {
	builds, err := m.driver.Builds()
	var needed map[string]bool
	if err == nil {
		needed, err = m.neededBuilds(leaving)
	}
	if err != nil {
		m.log.Warn("cannot tell which builds of the VMM are needed; all are kept", "error", err)
		return nil
	}
	var out []Garbage
	for _, b := range builds {
		if b.Current || needed[b.ID] || !strings.HasPrefix(b.Dir, m.layout.root+"/") {
			continue
		}
		out = append(out, Garbage{
			Kind: garbageBuild, ID: b.ID, Bytes: uint64(b.Bytes), loose: true,
			Reason: fmt.Sprintf("QEMU %s was replaced, and nothing that was saved under it is left", b.Version),
		})
	}
	return out
}

// neededBuilds returns the builds of all bases but those that are leaving. A
// base whose manifest cannot be read hides its build, so that it is an error.
func (m *Manager) neededBuilds(leaving []Garbage) (map[string]bool, error) {
	gone := make(map[snapshotDir]bool, len(leaving))
	for _, g := range leaving {
		gone[g.dir] = true
	}
	needed := make(map[string]bool)
	for _, dir := range m.allBases() {
		if gone[dir] {
			continue
		}
		mf, err := manifestOf(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		if id, err := m.driver.BuildOf(mf.Fingerprint); err == nil {
			needed[id] = true
		}
	}
	return needed, nil
}

// allBases returns the directories of all bases that are complete, those that
// machines hold first: a base in use stays for as long as it is.
func (m *Manager) allBases() (dirs []snapshotDir) {
	m.bases.mu.Lock()
	for dir := range m.bases.users {
		dirs = append(dirs, dir)
	}
	m.bases.mu.Unlock()
	for _, parent := range []string{m.layout.snapshots(), m.cfg.TemplateDir} {
		names, _ := filepath.Glob(filepath.Join(parent, "*")) // fails for bad patterns alone
		for _, name := range names {
			if !isRemains(name) || m.takingSnapshot(filepath.Base(name)) {
				dirs = append(dirs, snapshotDir(name))
			}
		}
	}
	return dirs
}
