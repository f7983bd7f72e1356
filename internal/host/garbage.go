package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Garbage is something on the host's disk that nothing needs any more.
type Garbage struct {
	// Kind is "template_snapshot", "snapshot" or "vmm_build".
	Kind string
	ID   string
	// Bytes is the space it takes.
	Bytes uint64
	// Reason says, in a sentence, why nothing needs it.
	Reason string

	dir snapshotDir
	// loose entries cannot be the base of a machine: no claim is needed.
	loose bool
}

// CollectGarbage removes unreferenced snapshots and builds and returns them; a dry
// run only returns them. The base of a machine is never garbage.
func (m *Manager) CollectGarbage(ctx context.Context, dryRun bool) ([]Garbage, error) {
	found, err := m.findGarbage()
	if err != nil || dryRun {
		return found, err
	}
	found = slices.DeleteFunc(found, func(g Garbage) bool { return g.Kind == garbageBuild })
	removed, err := m.removeGarbage(ctx, found)
	// Builds are looked for again: a base that would free one may have stayed.
	more, moreErr := m.removeGarbage(ctx, m.unneededBuilds(nil))
	return append(removed, more...), errors.Join(err, moreErr)
}

// removeGarbage removes the entries of found that nobody has begun to use since.
func (m *Manager) removeGarbage(ctx context.Context, found []Garbage) (removed []Garbage, err error) {
	var errs []error
	for _, g := range found {
		if ctx.Err() != nil {
			break
		}
		ok, err := true, error(nil)
		switch {
		case g.Kind == garbageBuild:
			err = m.driver.RemoveBuild(ctx, g.ID)
		case g.loose:
			err = os.RemoveAll(string(g.dir))
		default:
			ok, err = m.bases.remove(g.dir)
		}
		if err != nil {
			errs = append(errs, err)
		} else if ok {
			m.log.InfoContext(ctx, "removed garbage", "kind", g.Kind, "id", g.ID, "bytes", g.Bytes, "reason", g.Reason)
			removed = append(removed, g)
		}
	}
	return removed, errors.Join(errs...)
}

func (m *Manager) findGarbage() ([]Garbage, error) {
	templates, err1 := filepath.Glob(filepath.Join(m.layout.templates(), "*"))
	snapshots, err2 := filepath.Glob(filepath.Join(m.layout.snapshots(), "*"))
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	var out []Garbage
	add := func(kind, dir, reason string, loose bool) {
		g := Garbage{Kind: kind, ID: filepath.Base(dir), Reason: reason, dir: snapshotDir(dir), loose: loose}
		g.Bytes = diskUsage(g.dir)
		out = append(out, g)
	}
	for _, dir := range templates {
		switch t := snapshotDir(dir); {
		case isRemains(dir):
			add("template_snapshot", dir, "its removal was cut off", true)
		case m.bases.count(t) == 0 && !m.current(t):
			add("template_snapshot", dir, "no sandbox is based on it and new ones need another", false)
		}
	}
	for _, dir := range snapshots {
		s := snapshotDir(dir)
		_, deleted := os.Stat(s.deleted())
		switch {
		case isRemains(dir):
			add("snapshot", dir, "its making or its removal was cut off", true)
		case deleted == nil && m.bases.count(s) == 0:
			add("snapshot", dir, "it was deleted and no sandbox is based on it any more", false)
		}
	}
	out = slices.DeleteFunc(out, func(g Garbage) bool { return m.takingSnapshot(g.ID) })
	out = append(out, m.unneededBuilds(out)...)
	slices.SortFunc(out, func(a, b Garbage) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// isRemains reports whether dir is the remainder of a snapshot after a crash.
func isRemains(dir string) bool {
	name := filepath.Base(dir)
	return strings.HasPrefix(name, trashPrefix) || strings.HasPrefix(name, partialPrefix)
}

// takingSnapshot reports whether name is a snapshot that a machine is taking
// at this moment.
func (m *Manager) takingSnapshot(name string) bool {
	_, ok := m.taking.Load(name)
	return ok
}

// collectAtStart removes the files that an earlier agent left, ephemeral
// snapshots and half-made templates among them. It may be called again later.
func (m *Manager) collectAtStart(ctx context.Context) error {
	var errs []error
	for _, dir := range m.leftovers.ephemeral {
		err := os.WriteFile(dir.deleted(), nil, 0o600)
		if !errors.Is(err, os.ErrNotExist) { // it is gone: collected, or deleted meanwhile
			errs = append(errs, err)
		}
	}
	_, err := m.CollectGarbage(ctx, false)
	errs = append(errs, err)
	for name := range m.leftovers.builds {
		errs = append(errs, os.RemoveAll(filepath.Join(m.layout.builds(), name)))
	}
	return errors.Join(errs...)
}
