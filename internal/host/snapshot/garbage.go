package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// Garbage is something on the host's disk that nothing needs any more.
type Garbage struct {
	// Kind is "template_snapshot", "snapshot", "vmm_build" or "image".
	Kind string
	ID   string
	// Bytes is the space it takes.
	Bytes uint64
	// Reason says, in a sentence, why nothing needs it.
	Reason string

	dir    Dir
	driver vmm.Driver // of a build
	// loose entries cannot be the base of a sandbox: no claim is needed.
	loose bool
}

// Collect removes unreferenced snapshots and builds and returns them; a dry
// run only returns them. The base of a sandbox is never garbage.
func (s *Store) Collect(ctx context.Context, dryRun bool) ([]Garbage, error) {
	found, err := s.findGarbage()
	if err != nil || dryRun {
		return found, err
	}
	found = slices.DeleteFunc(found, func(g Garbage) bool { return g.Kind == garbageBuild })
	removed, err := s.removeGarbage(ctx, found)
	// Builds are looked for again: a base that would free one may have stayed.
	more, moreErr := s.removeGarbage(ctx, s.unneededBuilds(nil))
	return append(removed, more...), errors.Join(err, moreErr)
}

// removeGarbage removes the entries of found that nobody has begun to use since.
func (s *Store) removeGarbage(ctx context.Context, found []Garbage) (removed []Garbage, err error) {
	var errs []error
	for _, g := range found {
		if ctx.Err() != nil {
			break
		}
		ok, err := true, error(nil)
		switch {
		case g.Kind == garbageBuild:
			err = g.driver.RemoveBuild(ctx, g.ID)
		case g.loose:
			err = os.RemoveAll(string(g.dir))
		default:
			ok, err = s.Remove(g.dir)
		}
		if err != nil {
			errs = append(errs, err)
		} else if ok {
			s.Log.InfoContext(ctx, "removed garbage", "kind", g.Kind, "id", g.ID, "bytes", g.Bytes, "reason", g.Reason)
			removed = append(removed, g)
		}
	}
	return removed, errors.Join(errs...)
}

func (s *Store) findGarbage() ([]Garbage, error) {
	templates, err1 := filepath.Glob(filepath.Join(s.Templates, "*"))
	snapshots, err2 := filepath.Glob(filepath.Join(s.Named, "*"))
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	var out []Garbage
	add := func(kind, dir, reason string, loose bool) {
		g := Garbage{Kind: kind, ID: filepath.Base(dir), Reason: reason, dir: Dir(dir), loose: loose}
		g.Bytes = Usage(g.dir)
		out = append(out, g)
	}
	for _, dir := range templates {
		switch t := Dir(dir); {
		case IsRemains(dir):
			add("template_snapshot", dir, "its removal was cut off", true)
		case s.Users(t) == 0 && !s.Current(t):
			add("template_snapshot", dir, "no sandbox is based on it and new ones need another", false)
		}
	}
	for _, dir := range snapshots {
		n := Dir(dir)
		_, deleted := os.Stat(n.Deleted())
		switch {
		case IsRemains(dir):
			add("snapshot", dir, "its making or its removal was cut off", true)
		case deleted == nil && s.Users(n) == 0:
			add("snapshot", dir, "it was deleted and no sandbox is based on it any more", false)
		}
	}
	out = slices.DeleteFunc(out, func(g Garbage) bool { return s.isTaking(g.ID) })
	out = append(out, s.unneededBuilds(out)...)
	slices.SortFunc(out, func(a, b Garbage) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}
