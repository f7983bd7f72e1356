package host_test

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// agentVariable turns TestAgentChild into a host agent of its own process that
// does one operation and kills itself before a given step of it. Its value is
// "name dir templates op id generation step runtime".
const agentVariable = "WRENN_TEST_AGENT"

// TestAgentChild is not a test: see agentVariable.
func TestAgentChild(t *testing.T) {
	args := strings.Fields(os.Getenv(agentVariable))
	if len(args) != 8 {
		t.Skip("only runs as the child of the crash tests")
	}
	name, dir, templates, op, step := args[0], args[1], args[2], args[3], args[6]
	gen, err := strconv.ParseUint(args[5], 10, 64)
	check(t, err)
	ref := sandbox.Ref{ID: sandbox.ID(args[4]), Generation: sandbox.Generation(gen)}
	armed := op == "pool"
	filled := make(chan struct{}, 8)
	cfg := host.Config{
		Dir: dir, DiskReserveBytes: 1, TemplateDir: templates, Nameservers: []string{"192.0.2.53"},
		OnStep: func(s string) error {
			if armed && s == step {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
			if s == journal.StepPoolReady {
				filled <- struct{}{}
			}
			return nil
		},
	}
	if op == "pool" || op == "assign" {
		cfg.Pools = []host.PoolKind{{Spec: smallSpec, Size: 1}}
	}
	deps := hosttest.DepsWith(t, name, hosttest.Nameserver, driverOf(t, sandbox.Runtime(args[7])))
	m, err := host.Open(t.Context(), cfg, deps)
	check(t, err)
	if cfg.Pools != nil {
		<-filled
	}
	armed = true
	switch op {
	case "assign":
		awaitPool(t, m, 1)
		_, err = m.Create(t.Context(), ref, smallSpec)
	case "snapshot":
		_, err = m.Snapshot(t.Context(), ref, crashSnapshot, false)
	case "create":
		_, err = m.Create(t.Context(), ref, smallSpec)
	case "pause":
		_, err = m.Pause(t.Context(), ref)
	case "resume":
		_, err = m.Resume(t.Context(), ref)
	case "destroy":
		err = m.Destroy(t.Context(), ref, "")
	}
	t.Fatalf("%s ended without reaching %s: %v", op, step, err)
}

// crashSnapshot is the snapshot that op "snapshot" takes.
const crashSnapshot sandbox.SnapshotID = "crashsnapshot"

// crash runs op in an agent of its own that is killed before step, then opens
// the agent that follows it.
func (b *bench) crash(op string, ref sandbox.Ref, step string) {
	b.t.Helper()
	if b.Manager != nil {
		b.close()
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestAgentChild$", "-test.v")
	if b.programs == nil {
		b.programs = hosttest.ProgramsFor(b.t)
	}
	cmd.Env = append(append(os.Environ(), b.programs...), agentVariable+"="+strings.Join(
		[]string{b.name, b.dir, b.templates, op, string(ref.ID), strconv.FormatUint(uint64(ref.Generation), 10), step, cmp.Or(string(b.runtime), "microvm")}, " "))
	out, err := cmd.CombinedOutput()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		b.t.Fatalf("the agent was not killed at %s: %v\n%s", step, err, out)
	}
	b.open()
}

// state returns the state of the only sandbox, or an empty one when there is none.
func (b *bench) state(id sandbox.ID) host.Sandbox {
	for _, s := range b.List() {
		if s.Ref.ID == id {
			return s
		}
	}
	return host.Sandbox{}
}

func TestAgentKilledDuringCreate(t *testing.T) { onEachRuntime(t, agentKilledDuringCreate) }

func agentKilledDuringCreate(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wkcre")
	for _, step := range journal.Steps()["create"] {
		ref := newRef()
		b.crash("create", ref, step)
		if s := b.state(ref.ID); s.State != sandbox.Stopped || s.StopReason != sandbox.ReasonBootFailed {
			t.Fatalf("%s: the half-made sandbox is %q (%s), want stopped (boot_failed)", step, s.State, s.StopReason)
		}
		check(t, b.Destroy(t.Context(), ref, ""))
		b.nothingLeft()
	}
}

// TestAgentKilledWhileMakingATemplate: the half-made template is gone, and the
// next create makes a whole one.
func TestAgentKilledWhileMakingATemplate(t *testing.T) {
	onEachRuntime(t, agentKilledWhileMakingATemplate)
}

func agentKilledWhileMakingATemplate(t *testing.T, r sandbox.Runtime) {
	b := unopenedBench(t, r, "wktpl")
	b.templates = b.dir + "/templates"
	b.open()
	t.Cleanup(b.end)
	for _, step := range []string{
		journal.StepTemplateVMM, journal.StepTemplateGuest, journal.StepTemplatePublish,
	} {
		ref := newRef()
		b.crash("create", ref, step)
		check(t, b.Destroy(t.Context(), ref, ""))
		b.nothingLeft()
		if left := append(names(t, b.dir+"/builds"), names(t, b.templates)...); len(left) != 0 {
			t.Fatalf("killed before %s: left %v", step, left)
		}
	}
	b.sh(b.create(), "true")
}

// TestAgentKilledDuringPauseAndResume walks one sandbox through both, killed
// before every step: it must always be whole, in the old state or the new one,
// with its processes going on.
func TestAgentKilledDuringPauseAndResume(t *testing.T) {
	onEachRuntime(t, agentKilledDuringPauseAndResume)
}

func agentKilledDuringPauseAndResume(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wkpau")
	ref := b.create()
	b.sh(ref, counter)
	last := 0
	for _, op := range []string{"pause", "resume"} {
		for _, step := range journal.Steps()[op] {
			if op == "resume" {
				_, err := b.Pause(t.Context(), ref)
				check(t, err)
				ref.Generation++
			}
			b.crash(op, ref, step)
			s := b.state(ref.ID)
			t.Logf("killed before %s: %s", step, s.State)
			switch s.State {
			case sandbox.Running:
			case sandbox.Paused:
				ref.Generation = s.Ref.Generation + 1
				_, err := b.Resume(t.Context(), ref)
				check(t, err)
			default:
				t.Fatalf("killed before %s, the sandbox is %q (%s)", step, s.State, s.StopReason)
			}
			first, second := b.goesOn(ref)
			if first < last || second <= first {
				t.Fatalf("killed before %s: the counter went %d, %d, %d", step, last, first, second)
			}
			last = second
		}
	}
}

func TestAgentKilledDuringDestroy(t *testing.T) { onEachRuntime(t, agentKilledDuringDestroy) }

func agentKilledDuringDestroy(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wkdes")
	for _, step := range journal.Steps()["destroy"] {
		ref := b.create()
		b.crash("destroy", ref, step)
		if s := b.state(ref.ID); s.State != sandbox.Stopped || s.StopReason != sandbox.ReasonDestroyed {
			t.Fatalf("%s: the sandbox is %q (%s)", step, s.State, s.StopReason)
		}
		check(t, b.Destroy(t.Context(), ref, ""))
		b.nothingLeft()
	}
}

// TestAgentKilledDuringSnapshot: the sandbox continues, and the snapshot is whole
// or not there.
func TestAgentKilledDuringSnapshot(t *testing.T) { onEachRuntime(t, agentKilledDuringSnapshot) }

func agentKilledDuringSnapshot(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wksnp")
	ref := b.create()
	b.sh(ref, counter)
	last := 0
	for _, step := range journal.Steps()["snapshot"] {
		b.crash("snapshot", ref, step)
		if s := b.state(ref.ID); s.State != sandbox.Running {
			t.Fatalf("killed before %s, the sandbox is %q (%s)", step, s.State, s.StopReason)
		}
		first, second := b.goesOn(ref)
		if first < last || second <= first {
			t.Fatalf("killed before %s: the counter went %d, %d, %d", step, last, first, second)
		}
		last = second
		if names, _ := filepath.Glob(b.dir + "/snapshots/*"); len(names) != 0 {
			t.Fatalf("killed before %s: left %v", step, names)
		}
	}
	_, err := b.Snapshot(t.Context(), ref, crashSnapshot, false)
	check(t, err)
	child := newRef()
	_, err = b.CreateFrom(t.Context(), child, smallSpec, crashSnapshot)
	check(t, err)
	if n := atoi(t, b.sh(child, "cat /tmp/n")); n < last {
		t.Fatalf("the copy's counter stands at %d, the original's stood at %d", n, last)
	}
	check(t, b.DeleteSnapshot(t.Context(), crashSnapshot))
}

// TestAgentKilledDuringRefill: nothing of a half-made warm clone is left.
func TestAgentKilledDuringRefill(t *testing.T) { onEachRuntime(t, agentKilledDuringRefill) }

func agentKilledDuringRefill(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wkpoo")
	for _, step := range journal.Steps()["pool"] {
		b.crash("pool", newRef(), step)
		b.nothingLeft()
	}
}

// TestAgentKilledDuringAssign: a clone that was being given out is either a
// sandbox or gone.
func TestAgentKilledDuringAssign(t *testing.T) { onEachRuntime(t, agentKilledDuringAssign) }

func agentKilledDuringAssign(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wkass")
	for _, step := range journal.Steps()["assign"] {
		ref := newRef()
		b.crash("assign", ref, step)
		if s := b.state(ref.ID); s.State != sandbox.Stopped || s.StopReason != sandbox.ReasonBootFailed {
			t.Fatalf("%s: the half-made sandbox is %q (%s), want stopped (boot_failed)", step, s.State, s.StopReason)
		}
		check(t, b.Destroy(t.Context(), ref, ""))
		b.nothingLeft()
	}
}
