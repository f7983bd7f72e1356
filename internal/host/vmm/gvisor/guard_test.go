package gvisor

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/vmm/process"
)

type fakeGuarded struct {
	name  string
	over  uint64
	held  *[]string
	fails bool
}

func (f *fakeGuarded) excess() uint64 { return f.over }

func (f *fakeGuarded) hold(context.Context) error {
	*f.held = append(*f.held, f.name)
	if f.fails {
		return errors.New("the sentry does not answer")
	}
	f.over = 0
	return nil
}

// TestGuardHoldsTheGreediest: below the floor, sandboxes that use more than their
// share are paused, the greediest first; others never are.
func TestGuardHoldsTheGreediest(t *testing.T) {
	free := uint64(3 << 30)
	g := newGuard(1024, slog.New(slog.DiscardHandler))
	g.available = func() (uint64, error) { return free, nil }
	var held []string
	for name, over := range map[string]uint64{"modest": 0, "a": 1, "b": 2, "c": 3, "d": 4, "e": 5} {
		g.guarded[&fakeGuarded{name: name, over: over, held: &held, fails: name == "c"}] = true
	}
	if pause, done := g.look(); done || len(held) > 0 || pause != 500*time.Millisecond {
		t.Errorf("with 2 GiB above the floor: %v, %v, held %v; want the next look in 0.5 s", pause, done, held)
	}
	free = 1<<30 - 1
	if pause, _ := g.look(); pause != guardOften || !slices.Equal(held, []string{"e", "d", "c", "b"}) {
		t.Errorf("below the floor: held %v, the next look in %v; want e, d, c and b in %v", held, pause, guardOften)
	}
	held = nil
	g.look()
	if !slices.Equal(held, []string{"c", "a"}) {
		t.Errorf("then held %v, want c, which failed, and a", held)
	}
	if !g.short() {
		t.Error("paused sandboxes may continue below the floor")
	}
	if free = 1<<30 + 1<<20; !g.short() {
		t.Error("paused sandboxes may continue right above the floor")
	}
	if free = 2 << 30; g.short() {
		t.Error("paused sandboxes may not continue although there is memory")
	}
	clear(g.guarded)
	if _, done := g.look(); !done {
		t.Error("the guard goes on without a sandbox")
	}
}

// TestGuardRunsOnce: sandboxes that come and go do not start a second look at the same
// memory, and the first one after an idle time starts it again.
func TestGuardRunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most, looks atomic.Int32
		g := newGuard(1, slog.New(slog.DiscardHandler))
		g.available = func() (uint64, error) {
			most.Store(max(most.Load(), running.Add(1)))
			looks.Add(1)
			time.Sleep(time.Millisecond)
			running.Add(-1)
			return 64 << 30, nil
		}
		s := &fakeGuarded{}
		for range 3 {
			g.add(s)
			synctest.Wait()
			g.remove(s)
		}
		g.add(s)
		time.Sleep(4 * guardSeldom)
		if n := looks.Load(); n > 5 {
			t.Errorf("%d looks in 20 s with much memory, want one every 5 s", n)
		}
		if most.Load() > 1 {
			t.Errorf("%d goroutines look at once", most.Load())
		}
		g.remove(s)
		time.Sleep(2 * guardSeldom)
		before := looks.Load()
		g.add(s)
		time.Sleep(guardSeldom)
		if looks.Load() == before {
			t.Error("no look after the first sandbox came back")
		}
		g.remove(s)
		time.Sleep(2 * guardSeldom) // until it has ended
	})
}

// TestGuardSpacing: the time until the next look fits every size of memory, and a
// sandbox that cannot be paused is not tried so often that the log fills up.
func TestGuardSpacing(t *testing.T) {
	g := newGuard(1, slog.New(slog.DiscardHandler))
	var held []string
	stuck := &fakeGuarded{name: "stuck", over: 1, held: &held, fails: true}
	g.guarded[stuck] = true
	for gib := uint64(24); gib < 4096; gib += 7 {
		g.available = func() (uint64, error) { return gib << 30, nil }
		if pause, _ := g.look(); pause != guardSeldom {
			t.Fatalf("with %d GiB available: next look in %v, want %v", gib, pause, guardSeldom)
		}
	}
	g.available = func() (uint64, error) { return 0, nil }
	if pause, _ := g.look(); pause != guardSeldom || len(held) != 1 {
		t.Errorf("after a pause that failed: next look in %v, want %v", pause, guardSeldom)
	}
}

// TestGuardRetriesAHoldThatFailed: a sandbox that the guard could not pause is tried
// again, and counts as paused only afterwards.
func TestGuardRetriesAHoldThatFailed(t *testing.T) {
	v := fakeVM(t)
	g := guardedVM{v}
	if err := g.hold(t.Context()); err == nil || !v.hold.isHeld() || v.hold.isPaused() {
		t.Fatalf("without a sentry: %v, held %v, paused %v; want an error, and another try", err, v.hold.isHeld(), v.hold.isPaused())
	}
	v.power.known = true
	serve(t, v.dir, func(_ string, out io.Writer) {
		_, _ = io.WriteString(out, `{"success": true, "err": "", "result": null}`)
	})
	if err := g.hold(t.Context()); err != nil || !v.hold.isPaused() || g.excess() != 0 {
		t.Errorf("with a sentry: %v, paused %v; want a pause", err, v.hold.isPaused())
	}
}

// fakeVM returns a vm whose process is the test, and whose sentry is said to run.
func fakeVM(t *testing.T) *vm {
	t.Helper()
	rec, err := process.Identify(Name, os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	rec.Dir = t.TempDir()
	p, err := process.Open(rec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Detach)
	return &vm{
		Process: p, dir: rec.Dir, hold: newHold(newGuard(1, slog.New(slog.DiscardHandler)), rec.Dir),
		power: power{dir: rec.Dir, life: t.Context(), turn: make(chan struct{}, 1), known: true},
	}
}

// TestSilentSentryHindersNobody: while the memory alarm waits for a sentry that does not
// answer, the host and the guard get an answer in their time, and the alarm ends with the
// agent's hold on the sandbox.
func TestSilentSentryHindersNobody(t *testing.T) {
	v := fakeVM(t)
	silent := make(chan struct{})
	serve(t, v.dir, func(string, io.Writer) { <-silent })
	defer close(silent)
	life, end := context.WithCancel(t.Context())
	defer end()
	v.power.life = life
	alarm := make(chan struct{})
	go func() { defer close(alarm); v.endLargest(life) }()
	for !v.isAsked() {
		time.Sleep(time.Millisecond)
	}
	for name, call := range map[string]func(context.Context) error{"Pause": v.Pause, "Resume": v.Resume, "the guard": guardedVM{v}.hold} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want the end of its time", name, err)
		}
		cancel()
	}
	end()
	<-alarm
}

// isAsked reports whether a request to the sentry is under way.
func (v *vm) isAsked() bool {
	_, err := os.Stat(requestPath(v.dir))
	return err == nil
}
