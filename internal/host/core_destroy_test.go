package host_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// destroyAndLeave asks for the end of a sandbox and does not wait for it.
func (c *core) destroyAndLeave(ref sandbox.Ref) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	cancel()
	if err := c.Destroy(ctx, ref, ""); err == nil {
		c.t.Fatal("a destroy behind another operation ended at once")
	}
}

// TestCoreDestroyOutlivesItsCaller: an operation that a destroy interrupts
// leaves its sandbox to the destroy, which therefore must come.
func TestCoreDestroyOutlivesItsCaller(t *testing.T) {
	for _, k := range shapes(t) {
		t.Run(k.name, func(t *testing.T) { destroyOutlivesItsCaller(t, k) })
	}
}

func destroyOutlivesItsCaller(t *testing.T, k kind) {
	c := newCoreOf(t, k)
	for _, p := range []struct {
		state sandbox.State
		first action
		step  string
	}{
		{sandbox.Running, actPause, journal.StepPauseSave},
		{sandbox.Running, actSnapshot, journal.StepSnapshotSave},
		{sandbox.Paused, actResume, journal.StepResumeCont},
	} {
		ref := c.create()
		if p.state == sandbox.Paused {
			pauseSubject(c, ref)
		}
		changes, cancel := c.Subscribe()
		reached, unblock := c.hook.hold(p.step)
		result := make(chan error, 1)
		go func() { result <- p.first.do(t.Context(), c, ref) }()
		<-reached
		c.destroyAndLeave(ref)
		unblock()
		<-result
		for s := range changes {
			if s.Ref.ID == ref.ID && s.State == sandbox.Stopped {
				break
			}
		}
		cancel()
		if s := c.of(ref); s.State != "" {
			t.Errorf("%s at %s: the sandbox is %q, want none", p.first.name, p.step, s.State)
		}
	}
	c.agree()
}

// pauseAfterDestroy pauses a sandbox once the destroy that waits for its turn has been
// refused. A pause before that is refused.
func (c *core) pauseAfterDestroy(ref sandbox.Ref) {
	c.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		_, err := c.Pause(c.t.Context(), ref)
		if err == nil {
			return
		}
		if fault.ReasonOf(err) != "sandbox_stopped" {
			c.t.Fatalf("pause after a refused destroy: %v", err)
		}
		select {
		case <-tick.C:
		case <-c.t.Context().Done():
			c.t.Fatalf("a refused destroy keeps a sandbox from being paused: %v", err)
		}
	}
}

// TestCoreRefusedDestroyIsForgotten: a destroy that came for a generation before
// a resume, and is refused, does not disturb the operations after it.
func TestCoreRefusedDestroyIsForgotten(t *testing.T) {
	c := newCore(t, fastTemp(t))
	ref := c.create()
	pauseSubject(c, ref)
	reached, unblock := c.hook.hold(journal.StepResumeCommit)
	result := make(chan error, 1)
	go func() { result <- actResume.do(t.Context(), c, ref) }()
	<-reached
	c.destroyAndLeave(ref)
	unblock()
	check(t, <-result)
	live := ref
	live.Generation++
	c.pauseAfterDestroy(live)
	check(t, actResume.do(t.Context(), c, live))
	live.Generation++
	if got := c.read(live, mark); got != string(ref.ID) {
		t.Errorf("the sandbox's file holds %q", got)
	}
	if err := c.Destroy(t.Context(), ref, ""); !fault.Is(err, fault.Stale) {
		t.Errorf("destroy of an old generation: %v, want stale", err)
	}
}

// panicky is a driver whose restored VMs panic once when they are watched.
type panicky struct {
	vmm.Driver
	armed atomic.Bool
}

func (p *panicky) Restore(ctx context.Context, cfg vmm.Config, from vmm.Image) (vmm.VM, error) {
	vm, err := p.Driver.Restore(ctx, cfg, from)
	if err != nil {
		return nil, err
	}
	return &panickyVM{VM: vm, driver: p}, nil
}

type panickyVM struct {
	vmm.VM
	driver *panicky
}

func (v *panickyVM) Exited() <-chan struct{} {
	if v.driver.armed.CompareAndSwap(true, false) {
		panic("a fault between two steps")
	}
	return v.VM.Exited()
}

// TestCorePanicBetweenStepsOfResume: the resume is undone like one that failed.
func TestCorePanicBetweenStepsOfResume(t *testing.T) {
	for _, k := range shapes(t) {
		t.Run(k.name, func(t *testing.T) { panicBetweenStepsOfResume(t, k) })
	}
}

func panicBetweenStepsOfResume(t *testing.T, k kind) {
	c := newCoreOf(t, k)
	driver := &panicky{}
	c.wrap = func(d vmm.Driver) vmm.Driver { driver.Driver = d; return driver }
	c.restart()
	ref := c.create()
	pauseSubject(c, ref)
	driver.armed.Store(true)
	if err := actResume.do(t.Context(), c, ref); err == nil {
		t.Fatal("a resume that panicked succeeded")
	}
	if s := c.of(ref); s.State != sandbox.Paused || s.Ref != ref {
		t.Fatalf("after the panic the sandbox is %q as %+v, want paused as %+v", s.State, s.Ref, ref)
	}
	c.agree()
	check(t, actResume.do(t.Context(), c, ref))
	ref.Generation++
	if got := c.read(ref, mark); got != string(ref.ID) {
		t.Errorf("the sandbox's file holds %q", got)
	}
}

// TestCoreLostRecordOfALiveVM: a record without content is no sign of a crash of
// the host while the VM runs. The agent does not start, and harms nothing.
func TestCoreLostRecordOfALiveVM(t *testing.T) {
	c := newCore(t, fastTemp(t))
	ref := c.create()
	check(t, c.Close())
	c.Manager = nil
	path := filepath.Join(c.dir, "data", "sandboxes", string(ref.ID), "record.json")
	record, err := os.ReadFile(path)
	check(t, err)
	for _, content := range [][]byte{nil, make([]byte, len(record))} {
		check(t, os.WriteFile(path, content, 0o600))
		m, err := host.Open(t.Context(), c.config(), c.deps())
		if err == nil {
			c.Manager = m
			t.Fatal("an agent started although it cannot know its VM")
		}
		if !strings.Contains(err.Error(), "move") {
			t.Errorf("the error says %q, want a remedy", err)
		}
	}
	check(t, os.WriteFile(path, record, 0o600))
	c.open()
	if got := c.read(ref, mark); got != string(ref.ID) {
		t.Errorf("the sandbox's file holds %q", got)
	}
}
