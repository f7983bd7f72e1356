package snapshot

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// keeper is a driver that keeps builds. The entry "build" of a fingerprint names one.
type keeper struct {
	vmm.Driver
	root    string
	kept    []string // the first is the current one
	failure error    // of BuildOf
}

func (*keeper) Info() vmm.Info { return vmm.Info{Driver: "keeper"} }

func (k *keeper) Builds() (out []vmm.Build, err error) {
	for _, id := range k.kept {
		out = append(out, vmm.Build{ID: id, Current: id == k.kept[0], Dir: filepath.Join(k.root, "builds", id)})
	}
	return out, nil
}

func (k *keeper) BuildOf(saved map[string]string) (string, error) {
	if k.failure == nil && !slices.Contains(k.kept, saved["build"]) {
		return "", fault.New(fault.WrongState, "vmm_build_missing", "it is not kept")
	}
	return saved["build"], k.failure
}

func (k *keeper) RemoveBuild(_ context.Context, id string) error {
	k.kept = slices.DeleteFunc(k.kept, func(one string) bool { return one == id })
	return nil
}

// TestNeededBuildsStay: a build goes with the last base that was saved under it. The
// bases are those of sandboxes and warm clones, wherever they lie, named snapshots, and
// template snapshots of this agent and of those that share them.
func TestNeededBuildsStay(t *testing.T) {
	root := t.TempDir()
	k := &keeper{root: root, kept: []string{"current", "held", "named", "template", "shared", "old"}}
	s := New(Options{
		Drivers: vmm.Drivers{k}, Log: slog.New(slog.DiscardHandler), Root: root, Named: filepath.Join(root, "snapshots"),
		Templates: filepath.Join(root, "templates"), SharedTemplates: filepath.Join(root, "shared"),
		Current: func(dir Dir) bool { return filepath.Base(string(dir)) == "template" },
	})
	base := func(parent, build string) Dir {
		dir := Dir(filepath.Join(root, parent, build))
		mf := Manifest{Fingerprint: map[string]string{"driver": "keeper", "build": build}}
		if err := errors.Join(os.MkdirAll(string(dir), 0o700), writeManifest(dir, mf, nil, false)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	held, named := base("templates", "held"), base("snapshots", "named")
	base("shared", "shared")
	base("shared", "template")
	base("snapshots", "gone") // its build is not kept, which hides no other
	if err := s.Hold(held); err != nil {
		t.Fatal(err)
	}
	expect := func(when string, want ...string) {
		t.Helper()
		if _, err := s.Collect(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(k.kept, want) {
			t.Errorf("%s: kept are %v, want %v", when, k.kept, want)
		}
	}
	k.failure = errors.New("the store cannot be read")
	expect("while builds cannot be told", "current", "held", "named", "template", "shared", "old")
	k.failure = nil
	expect("with all users", "current", "held", "named", "template", "shared")
	s.Drop(held)
	expect("after the last sandbox", "current", "named", "template", "shared")
	if _, err := s.Remove(named); err != nil {
		t.Fatal(err)
	}
	expect("after the snapshot", "current", "template", "shared")
}
