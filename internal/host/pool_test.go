package host_test

import (
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// awaitPool returns when the only pool has ready clones.
func awaitPool(t testing.TB, m *host.Manager, ready int) {
	t.Helper()
	limit := time.After(hosttest.Patience(t, 90*time.Second))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for m.Pools()[0].Ready < ready {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("the pool did not fill up: %+v", m.Pools())
		}
	}
}

// ownSettings fails unless the published settings are those of the sandbox itself.
const ownSettings = `grep -q "\"machine_id\":\"$(cat /etc/machine-id)\"" /run/wrenn/settings`

func TestPool(t *testing.T) { onEachRuntime(t, pool) }

func pool(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wpool", func(cfg *host.Config) {
		cfg.Pools = []host.PoolKind{{Spec: smallSpec, Size: 2}}
	})
	awaitPool(t, b.Manager, 2)
	if n := len(b.List()); n != 0 {
		t.Fatalf("%d warm clones are listed as sandboxes", n)
	}
	var refs []sandbox.Ref
	seen := make(map[string]bool)
	for i, want := range []journal.Source{journal.SourcePool, journal.SourcePool, journal.SourceRestore} {
		ref := newRef()
		s, err := b.Create(t.Context(), ref, smallSpec)
		check(t, err)
		if s.Source != want && (i < 2 || s.Source != journal.SourcePool) { // a third may be ready by then
			t.Fatalf("create %d came from %s, want %s: %+v", i, s.Source, want, b.Pools())
		}
		t.Logf("create from %s took %v", s.Source, s.Steps)
		checkRestoreReport(t, s, true)
		refs = append(refs, ref)
		id := b.sh(ref, "cat /etc/machine-id /proc/sys/kernel/random/boot_id; hostname")
		if seen[id] {
			t.Fatalf("two sandboxes are %q", id)
		}
		seen[id] = true
		b.sh(ref, ownSettings)
	}
	// A clone that came from the pool is a sandbox like any other, also for the
	// next agent.
	b.sh(refs[0], counter)
	_, err := b.Pause(t.Context(), refs[0])
	check(t, err)
	b.close()
	b.open()
	refs[0].Generation++
	_, err = b.Resume(t.Context(), refs[0])
	check(t, err)
	b.sh(refs[0], ownSettings)
	if first, second := b.goesOn(refs[0]); second <= first {
		t.Fatalf("the counter went %d, %d", first, second)
	}
	if got := b.sh(refs[1], "echo here"); got != "here" {
		t.Fatalf("got %q", got)
	}
}

// TestOtherKindMissesThePool: a create of another kind gets no clone of the pool.
func TestOtherKindMissesThePool(t *testing.T) {
	b := newBench(t, "wmiss", func(cfg *host.Config) {
		cfg.Pools = []host.PoolKind{{Spec: smallSpec, Size: 1}}
	})
	awaitPool(t, b.Manager, 1)
	other := smallSpec
	other.DiskMB += 64
	s, err := b.Create(t.Context(), newRef(), other)
	check(t, err)
	if s.Source != journal.SourceRestore || b.Pools()[0].Hits != 0 {
		t.Fatalf("a sandbox of another size came from %s", s.Source)
	}
}

// checkRestoreReport checks the guarantees of every start.
func checkRestoreReport(t testing.TB, s host.Sandbox, fresh bool) {
	t.Helper()
	h := s.RestoreReport
	if h == nil || !h.Reseeded || h.NewIdentity != fresh || !h.TokenReplaced || !h.NetworkAnswers ||
		h.Generation != s.Ref.Generation || h.ClockSkew.Abs() > 50*time.Millisecond+h.Steps["round_trip"]/2 {
		t.Fatalf("restore report %+v", h)
	}
}
