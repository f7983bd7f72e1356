package host_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/datafs"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// sniper kills every VM of a bench when an armed step is about to begin.
type sniper struct {
	b    *bench
	step string
	hits int // VMs killed
}

func (s *sniper) onStep(step string) error {
	if step != s.step {
		return nil
	}
	s.step = ""
	found, err := s.b.deps.Drivers.Find(s.b.dir)
	if err != nil {
		s.b.t.Error(err)
	}
	for _, p := range found {
		_ = syscall.Kill(p.PID, syscall.SIGKILL)
		s.hits++
	}
	return nil
}

// onXFS gives the bench a data directory whose files can share blocks.
func (b *bench) onXFS() {
	b.t.Helper()
	hosttest.Root(b.t)
	place := datafs.Place{Image: filepath.Join(b.dir, "data.xfs"), Dir: filepath.Join(b.dir, "x")}
	_, err := place.Open(b.t.Context(), datafs.MinSize)
	check(b.t, err)
	b.t.Cleanup(func() { check(b.t, place.Close()) })
	b.dir = place.Dir
}

// TestVMMKilledDuringResume: where files share blocks, a VM that dies on its
// way back is paused as before; elsewhere it is so until its disk has moved on.
func TestVMMKilledDuringResume(t *testing.T) { onEachRuntime(t, vmmKilledDuringResume) }

func vmmKilledDuringResume(t *testing.T, r sandbox.Runtime) {
	b := unopenedBench(t, r, "wvmmr")
	b.onXFS()
	b.templates = b.dir + "/templates"
	kill := &sniper{b: b}
	b.configure = func(cfg *host.Config) { cfg.OnStep = kill.onStep }
	b.open()
	t.Cleanup(b.end)
	ref := b.create()
	b.sh(ref, counter)
	last := 0
	for _, step := range journal.Steps()["resume"] {
		if !strings.HasPrefix(step, "resume.co") { // no VM before
			continue
		}
		_, err := b.Pause(t.Context(), ref)
		check(t, err)
		ref.Generation++
		kill.step, kill.hits = step, 0
		_, err = b.Resume(t.Context(), ref)
		if err == nil && kill.hits == 0 {
			continue // the step itself makes the VM
		}
		if err == nil && step != journal.StepResumeCommit {
			t.Fatalf("%s: a VM that was killed came back", step)
		}
		s := b.state(ref.ID)
		if s.State != sandbox.Paused {
			if step == journal.StepResumeCommit {
				break // it ran, and then it died
			}
			t.Fatalf("%s: the sandbox is %s (%s), want paused", step, s.State, s.StopReason)
		}
		_, err = b.Resume(t.Context(), ref)
		check(t, err)
		n := atoi(t, b.sh(ref, "cat /tmp/n"))
		if n < last {
			t.Fatalf("%s: the counter went from %d to %d", step, last, n)
		}
		last = n
	}
}

// TestVMMKilledDuringSnapshot: the sandbox is lost with its VM, and says so;
// no half snapshot is left.
func TestVMMKilledDuringSnapshot(t *testing.T) { onEachRuntime(t, vmmKilledDuringSnapshot) }

func vmmKilledDuringSnapshot(t *testing.T, r sandbox.Runtime) {
	kill := &sniper{}
	b := newBenchOf(t, r, "wvmms", func(cfg *host.Config) { cfg.OnStep = kill.onStep })
	kill.b = b
	for _, step := range []string{journal.StepSnapshotFreeze, journal.StepSnapshotSave, journal.StepSnapshotCont} {
		ref := b.create()
		kill.step = step
		if _, err := b.Snapshot(t.Context(), ref, "half", false); err == nil {
			t.Fatalf("%s: a snapshot of a VM that was killed", step)
		}
		if names, _ := filepath.Glob(b.dir + "/snapshots/*"); len(names) != 0 {
			t.Fatalf("%s: left %v", step, names)
		}
		check(t, b.Destroy(t.Context(), ref, ""))
	}
}

// TestPoolCloneKilled: a warm clone that dies is replaced, and one that dies as
// it is given out is made up for.
func TestPoolCloneKilled(t *testing.T) { onEachRuntime(t, poolCloneKilled) }

func poolCloneKilled(t *testing.T, r sandbox.Runtime) {
	kill := &sniper{}
	b := newBenchOf(t, r, "wvmmp", func(cfg *host.Config) {
		cfg.OnStep = kill.onStep
		cfg.Pools = []host.PoolKind{{Spec: smallSpec, Size: 1}}
	})
	kill.b = b
	awaitPool(t, b.Manager, 1)
	kill.step = journal.StepCreateConfigure
	ref := newRef()
	s, err := b.Create(t.Context(), ref, smallSpec)
	check(t, err)
	if s.Source != journal.SourceRestore {
		t.Fatalf("the sandbox came from %s", s.Source)
	}
	if got := b.sh(ref, "echo up"); got != "up" {
		t.Fatalf("got %q", got)
	}
	awaitPool(t, b.Manager, 1)
}

// TestReserveRefusesSnapshots: a snapshot is refused below the reserve, and
// the sandbox continues; a pause still succeeds.
func TestReserveRefusesSnapshots(t *testing.T) { onEachRuntime(t, reserveRefusesSnapshots) }

func reserveRefusesSnapshots(t *testing.T, r sandbox.Runtime) {
	full := false
	b := newBenchOf(t, r, "wresv", func(cfg *host.Config) {
		if full {
			cfg.DiskReserveBytes = 1 << 60
		}
	})
	ref := b.create()
	b.close()
	full = true
	b.open()
	if _, err := b.Snapshot(t.Context(), ref, "refused", false); !fault.Is(err, fault.NoCapacity) {
		t.Fatalf("a snapshot below the reserve: %v", err)
	}
	if _, err := b.Create(t.Context(), newRef(), smallSpec); !fault.Is(err, fault.NoCapacity) {
		t.Fatalf("a create below the reserve: %v", err)
	}
	b.sh(ref, "true")
	_, err := b.Pause(t.Context(), ref)
	check(t, err)
	if _, err := os.Stat(b.dir + "/snapshots/refused"); !os.IsNotExist(err) {
		t.Fatal("the refused snapshot is there")
	}
}
