package sim

import (
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// defaultRuns is the number of histories of a normal run, and shortRuns that of one
// with -short, as after each edit. Each has some of everything.
const (
	defaultRuns = 1000
	shortRuns   = 300
)

// traced is the seed whose trace is wanted, from WRENN_SIM_SEED; zero is none.
var traced = envNumber("WRENN_SIM_SEED", 0)

func envNumber(name string, otherwise uint64) uint64 {
	n, err := strconv.ParseUint(os.Getenv(name), 10, 64)
	if err != nil {
		return otherwise
	}
	return n
}

// run makes the history of one seed and returns it when it is over.
func run(t *testing.T, seed uint64) (w *world) {
	synctest.Test(t, func(*testing.T) {
		w = newWorld(seed)
		for _, s := range w.servers {
			time.Sleep(between(w.draw("start"), time.Nanosecond, time.Second))
			s.startProcess()
		}
		for n := range 3 {
			w.work.Go(func() { w.client(n) })
		}
		w.faults()
		w.quiet.Store(true)
		w.note("faults have ended")
		time.Sleep(lateFor + convergeFor)
		w.checkConverged()
		for _, s := range w.servers {
			s.stopProcess()
		}
		w.work.Wait()
	})
	return w
}

// tail returns the end of the trace, or all of it for a seed that is traced.
func (w *world) tail() string {
	lines := w.trace
	if w.seed != traced && len(lines) > 60 {
		lines = lines[len(lines)-60:]
	}
	return strings.Join(lines, "\n")
}

// sorted returns the trace with the lines of one instant in a fixed order.
func (w *world) sorted() []string { return slices.Sorted(slices.Values(w.trace)) }

// TestSimulation runs many histories with different seeds and asserts the
// invariants of the package's doc in each.
func TestSimulation(t *testing.T) {
	usual := uint64(defaultRuns)
	if testing.Short() {
		usual = shortRuns
	}
	first, runs := uint64(1), envNumber("WRENN_SIM_RUNS", usual)
	if traced != 0 {
		first, runs = traced, 1
	}
	var (
		mu     sync.Mutex
		counts = make(map[string]int)
	)
	workers := uint64(runtime.GOMAXPROCS(0))
	t.Run("histories", func(t *testing.T) {
		for worker := range min(workers, runs) {
			t.Run(strconv.FormatUint(worker, 10), func(t *testing.T) {
				t.Parallel()
				for seed := first + worker; seed < first+runs; seed += workers {
					w := run(t, seed)
					if w.failed != "" {
						t.Fatalf("seed %d: %s\nreplay: WRENN_SIM_SEED=%d go test -v -run TestSimulation ./internal/control/sim\n%s",
							seed, w.failed, seed, w.tail())
					}
					if w.seed == traced {
						t.Log("\n" + w.tail())
					}
					mu.Lock()
					for k, n := range w.counts {
						counts[k] += n
					}
					mu.Unlock()
				}
			})
		}
	})
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%-24s %d", k, counts[k])
	}
	if runs < 100 || t.Failed() {
		return
	}
	// A simulation in which nothing succeeds, or nothing fails, shows nothing.
	for _, op := range []string{"create", "pause", "resume", "destroy", "fork", "snapshot"} {
		if counts[op+" ok"] == 0 || counts[op+" failed"] == 0 {
			t.Errorf("%s: %d succeeded and %d failed; want some of both", op, counts[op+" ok"], counts[op+" failed"])
		}
	}
}

// TestReplay: a seed gives one history, to the nanosecond.
func TestReplay(t *testing.T) {
	for seed := uint64(1); seed <= 100; seed++ {
		a, b := run(t, seed).sorted(), run(t, seed).sorted()
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Errorf("seed %d differs at line %d:\n%s\n---\n%s", seed, i,
					strings.Join(a[max(0, i-6):i+2], "\n"), strings.Join(b[i:i+2], "\n"))
				break
			}
		}
		if len(a) != len(b) {
			t.Fatalf("seed %d: %d lines and %d lines", seed, len(a), len(b))
		}
	}
}
