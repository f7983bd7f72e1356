package bench

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRun(t *testing.T) {
	s := &server{pool: 2}
	report, err := measure(t, s, smallOptions())
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]int{
		opFirst: 1, opPool: 2, opPoolExec: 2, opRestore: 2, opRestoreExec: 2,
		opStaggered: 3, opStaggeredExec: 3, opBurst: 6, opBurstLast: 2, opBurstExec: 3,
		opExec: 2 * execsPerRound, opExecGuest: 2, opExecAdded: 2,
		opPause: 2, opResume: 2, "pause_8_mb": 2, "resume_64_mb": 2, opDelete: 2,
		"fork_window_memory_8_mb": 2, "fork_window_disk_64_mb": 2, opForkWindow: 4, opForkFirst: 2, opForkEach: 2, opSnapshot: 2, opSnapshotWindow: 2, opFromSnapshot: 2,
		opPublicExec: 2 * execsPerRound, opPublicAdded: 2, opAttach: 2 * execsPerRound, opPort: 2,
		opUpload: 2, opDownload: 2, opPython: 2, opPythonPool: 2, opSum: 2,
	} {
		if m := report.find(name); m == nil || m.N != n || len(m.Samples) != n {
			t.Errorf("%s: %+v, want %d samples", name, m, n)
		}
	}
	if report.find(opBareBoot) != nil || report.find(opMemory) != nil || len(report.Missing) != 1 || len(report.Density) != 0 {
		t.Errorf("there was neither QEMU nor a VMM process here: %+v", report.Missing)
	}
	if want := (Size{1, 512, 2048 + diskStep}); report.RestoreSandbox != want {
		t.Errorf("restored sandboxes are %+v", report.RestoreSandbox)
	}
	if _, err := json.Marshal(report); err != nil {
		t.Error(err)
	}
}

func TestEachClockMeasuresItsOwn(t *testing.T) {
	report, err := measure(t, &server{pool: 2}, smallOptions())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]time.Duration{
		opPool: poolTime, opPoolExec: poolTime + execTime, opRestore: restoreTime, opRestoreExec: restoreTime + execTime,
		opPython: execTime, opPythonPool: execTime, opSum: loopTime, opExec: execTime, opExecGuest: guestTime, opExecAdded: execTime - guestTime,
		opPublicExec: publicTime, opPublicAdded: publicTime - execTime, opAttach: attachTime,
		opPause: baseTime, "pause_64_mb": baseTime + 64*pausePerMB, "resume_8_mb": baseTime + 8*resumePerMB,
		"fork_window_memory_64_mb": windowTime + 64*forkPerMB, "fork_window_disk_64_mb": windowTime, opForkWindow: windowTime, opForkFirst: windowTime + childTime, opForkEach: childTime,
		opSnapshot: windowTime + restoreTime, opFromSnapshot: restoreTime, opBurstLast: restoreTime,
	} {
		if m := report.find(name); m == nil || math.Abs(m.Median-ms(want)) > 0.001 {
			t.Errorf("%s: %+v, want %v", name, m, want)
		}
	}
	for i, want := range []Fit{{2, 60, 1}, {1, 60, 1}, {0.5, 70, 1}, {0, 70, 1}} {
		if f := report.Lines[i].Fit; f == nil || math.Abs(f.SlopeMSPerMB-want.SlopeMSPerMB)+math.Abs(f.InterceptMS-want.InterceptMS) > 1e-6 {
			t.Errorf("%s: %+v, want %+v", report.Lines[i].Name, f, want)
		}
	}
}

func TestCreatesAreCountedWhereTheyCameFrom(t *testing.T) {
	for name, c := range map[string]struct {
		server        *server
		pool, restore int
		missing       string
	}{
		"a pool":                       {&server{pool: 1}, 2, 2, ""},
		"a pool the server is late on": {&server{pool: 2, staleHosts: 30 * time.Second}, 2, 2, ""},
		"no pool":                      {&server{}, 0, 2, "no host keeps a pool"},
		"a pool that stays empty":      {&server{pool: 2, broken: true}, 0, 2, "no warm clone was ready"},
	} {
		t.Run(name, func(t *testing.T) {
			o := smallOptions()
			o.Burst, o.DirtyRounds = 0, 0
			report, err := measure(t, c.server, o)
			if err != nil {
				t.Fatal(err)
			}
			if pool, restore := samples(report, opPool), samples(report, opRestore); pool != c.pool || restore != c.restore {
				t.Errorf("%d from the pool, %d restored; want %d, %d", pool, restore, c.pool, c.restore)
			}
			if noted := strings.Contains(strings.Join(report.Missing, "\n"), "create_pool: "); noted != (c.missing != "") ||
				!strings.Contains(strings.Join(report.Missing, "\n"), c.missing) {
				t.Errorf("missing: %q, want %q", report.Missing, c.missing)
			}
		})
	}
}

func samples(report *Report, name string) int {
	if m := report.find(name); m != nil {
		return m.N
	}
	return 0
}

func TestBatchesReportHowManyCameFromThePool(t *testing.T) {
	o := smallOptions()
	o.Rounds, o.DirtyRounds, o.FileBytes = 1, 0, 0
	report, err := measure(t, &server{pool: 2}, o)
	if err != nil {
		t.Fatal(err)
	}
	var shapes []Shape
	for _, v := range report.Batches {
		shapes = append(shapes, v.Shape)
		if v.N != 3 || v.FromPool != 2 || v.Failed != 0 || v.ToExec != (v.TookMS > ms(restoreTime)) {
			t.Errorf("%+v", v)
		}
	}
	if want := []Shape{Staggered, Burst, Burst, Burst}; !slices.Equal(shapes, want) {
		t.Errorf("%v, want %v", shapes, want)
	}
	if v := report.Batches[0]; v.TookMS != ms(2*o.Stagger+restoreTime+execTime) {
		t.Errorf("staggered creates took %v ms", v.TookMS)
	}
}

func TestAPartThatFailsLosesNoOther(t *testing.T) {
	for at, c := range map[string]struct {
		lost, poolTarget []string
		fails            bool
	}{
		"POST pause":     {[]string{opPause, opDelete}, []string{opRestore, opExec, opForkFirst, opFromSnapshot, opBurst}, false},
		"POST resume":    {[]string{opResume}, []string{opPause, opForkFirst, opSnapshot, opBurst}, false},
		"POST snapshots": {[]string{opSnapshot, opFromSnapshot}, []string{opPause, opForkFirst, opUpload}, false},
		"PUT files":      {[]string{opUpload, opDelete}, []string{opPause, opResume, opForkFirst, opBurst}, false},
		"GET files":      {[]string{opDownload}, []string{opUpload, opForkFirst, opBurst}, false},
		"POST fork":      {[]string{opForkFirst, opForkEach}, []string{opPause, opSnapshot, opBurst}, true},
	} {
		report, err := measure(t, &server{pool: 2, failAt: at}, smallOptions())
		if report == nil || (err != nil) != c.fails {
			t.Errorf("%s failed: %v", at, err)
			continue
		}
		for _, name := range c.lost {
			if report.find(name) != nil {
				t.Errorf("%s failed and %s has samples", at, name)
			}
		}
		for _, name := range c.poolTarget {
			if report.find(name) == nil {
				t.Errorf("%s failed and %s was lost", at, name)
			}
		}
		if len(report.Missing) < 2 {
			t.Errorf("%s failed and is not said to be missing: %q", at, report.Missing)
		}
	}
}

func TestFailedCreatesFailTheRun(t *testing.T) {
	report, err := measure(t, &server{pool: 2, refuseOver: 2}, smallOptions())
	if err == nil || report == nil {
		t.Fatalf("of three creates at once one failed: %v, %v", report, err)
	}
	if report.find(opBurst) != nil || report.find(opStaggered) != nil || report.find(opPool) == nil {
		t.Error("a burst with failures counts, or the rest does not")
	}
	if v := report.Batches[len(report.Batches)-1]; v.Failed != 1 {
		t.Errorf("%+v", v)
	}
}

func TestAPartIsSkippedAfterThreeFailures(t *testing.T) {
	o := smallOptions()
	o.Rounds, o.Burst, o.DirtyRounds = 6, 0, 0
	report, err := measure(t, &server{failAt: "POST pause", failures: 2}, o)
	if err != nil || samples(report, opPause) != 4 {
		t.Errorf("%d pauses after two failures: %v", samples(report, opPause), err)
	}
	report, err = measure(t, &server{failAt: "POST pause", failures: maxFailures}, o)
	if err != nil || samples(report, opPause) != 0 {
		t.Errorf("%d pauses after %d failures: %v", samples(report, opPause), maxFailures, err)
	}
}

func TestNothingCanBeMeasured(t *testing.T) {
	for _, at := range []string{"GET hosts", "GET readyz", "POST sandboxes"} {
		if report, err := measure(t, &server{failAt: at}, smallOptions()); err == nil || report != nil {
			t.Errorf("%s failed: %v, %v", at, report, err)
		}
	}
}

func TestChangedFileFailsTheRun(t *testing.T) {
	if report, err := measure(t, &server{corrupt: true}, smallOptions()); err == nil || report == nil {
		t.Errorf("a file that came back changed was not noticed: %v", err)
	}
}

func TestSandboxThatCannotBeDeleted(t *testing.T) {
	s := &server{pool: 2, stuck: "fake2box"}
	report, err := measure(t, s, smallOptions())
	if err == nil || report == nil || !strings.Contains(err.Error(), s.stuck) {
		t.Fatalf("%s is left: %v", s.stuck, err)
	}
	if samples(report, opForkFirst) != 2 || !strings.Contains(strings.Join(report.Missing, "\n"), partCleaning) {
		t.Errorf("%q", report.Missing)
	}
}

func TestInterruptedRunLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, after := range []time.Duration{100 * time.Millisecond, 2 * time.Second, 5 * time.Second, 9 * time.Second} {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			if report, err := measureIn(ctx, t, &server{pool: 2}, smallOptions()); err == nil || report != nil {
				t.Errorf("interrupted after %v: %v, %v", after, report, err)
			}
			cancel()
		}
	})
}

func TestDensity(t *testing.T) {
	o := smallOptions()
	o.Rounds, o.Burst, o.DirtyRounds, o.Density = 1, 0, 0, 9
	s := &server{}
	report, err := measure(t, s, o)
	if err != nil || report == nil {
		t.Fatal(err)
	}
	d := report.Density[0]
	if d.Alive != 9 || d.Answered != 9 || s.most != 9 || d.Measured != 0 {
		t.Errorf("%+v, %d together", d, s.most)
	}
	if want := (3 * restoreTime).Seconds(); math.Abs(d.CreateSec-want) > 1e-6 {
		t.Errorf("9 creates, %d at once, took %v s", maxParallel, d.CreateSec)
	}
	report, err = measure(t, &server{refuseOver: 7}, o)
	if err == nil || report == nil || report.Density[0].Alive != 7 || report.Density[0].Answered != 7 {
		t.Errorf("two were refused: %v, %+v", err, report)
	}
}

func TestBareBootThatNeverGetsReady(t *testing.T) {
	b := Bare{Binary: "/bin/false", MakeDisk: func(context.Context, string, int64) error { return nil }}
	if _, err := b.boot(t.Context(), "tcg", Size{}); err == nil {
		t.Error("a machine that ends at once counts as booted")
	}
}

func TestShownArgumentsHaveNoPaths(t *testing.T) {
	b := Bare{Binary: "/usr/bin/qemu", Kernel: "/a/vmlinux", Initramfs: "/a/b.cpio", RootImage: "/c/root.erofs"}
	for _, arg := range b.shownArgs("kvm", Size{VCPUs: 1, MemoryMB: 512}) {
		if strings.Contains(arg, "/") {
			t.Errorf("%s", arg)
		}
	}
}
