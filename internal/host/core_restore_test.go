package host_test

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/fakes"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/fake"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// halting is a driver whose next Restore, once armed, starts the VM and does not
// return until unblock is closed.
type halting struct {
	vmm.Driver
	armed            atomic.Bool
	reached, unblock chan struct{}
}

func (h *halting) Restore(ctx context.Context, cfg vmm.Config, from vmm.Image) (vmm.VM, error) {
	vm, err := h.Driver.Restore(ctx, cfg, from)
	if err == nil && h.armed.CompareAndSwap(true, false) {
		close(h.reached)
		<-h.unblock
		return nil, errInjected
	}
	return vm, err
}

// TestCoreKilledWithinRestore ends the agent after a VM was restored for a resume
// and before the record names it. The next agent cannot know whether the restore
// has ended, so that it ends the VM: the sandbox is paused as before.
func TestCoreKilledWithinRestore(t *testing.T) {
	for _, k := range shapes(t) {
		t.Run(k.name, func(t *testing.T) {
			c := newCoreOf(t, k)
			ref := c.killedWithinRestore(func() {})
			s := c.of(ref)
			if s.State != sandbox.Paused {
				t.Fatalf("the sandbox is %q, want paused", s.State)
			}
			c.agree()
			check(t, actResume.do(t.Context(), c, s.Ref))
			s.Ref.Generation++
			if got := c.read(s.Ref, mark); got != string(ref.ID) {
				t.Errorf("the sandbox's file holds %q", got)
			}
			c.sound()
			c.empty()
		})
	}
}

// killedWithinRestore pauses a sandbox, and ends the agent after the VM was restored for
// a resume and before the record names it. It calls between before it opens the next
// agent.
func (c *core) killedWithinRestore(between func()) sandbox.Ref {
	c.t.Helper()
	driver := &halting{reached: make(chan struct{}), unblock: make(chan struct{})}
	c.wrap = func(d vmm.Driver) vmm.Driver { driver.Driver = d; return driver }
	c.restart()
	ref := c.create()
	pauseSubject(c, ref)
	driver.armed.Store(true)
	c.t.Cleanup(func() { close(driver.unblock) })
	ctx, cancel := context.WithCancel(c.t.Context())
	result, agent := make(chan error, 1), *c
	go func() { result <- actResume.do(ctx, &agent, ref) }()
	<-driver.reached
	if n := len(c.machine.Records()); n != 1 {
		c.t.Fatalf("%d VMs run in the midst of the restore, want 1", n)
	}
	c.wrap = nil
	between()
	c.crash()
	cancel()
	if err := <-result; err == nil {
		c.t.Error("the resume was acknowledged")
	}
	return ref
}

// TestCoreKilledWithinRestoreOfARuntimeThatGoes: the next agent has no driver for the VM
// that no record names. It ends the VM all the same.
func TestCoreKilledWithinRestoreOfARuntimeThatGoes(t *testing.T) {
	for _, k := range shapes(t) {
		t.Run(k.name, func(t *testing.T) {
			c := newCoreOf(t, k)
			other := func() {
				if c.single = !c.single; c.shape == fake.Mapped {
					c.shape = fake.Checkpointed
				} else {
					c.shape = fake.Mapped
				}
			}
			ref := c.killedWithinRestore(other)
			if left := c.machine.Records(); len(left) > 0 {
				t.Errorf("the VMs %v outlive the agent that started them", left)
			}
			if s := c.of(ref); s.State != sandbox.Paused {
				t.Errorf("the sandbox is %q, want paused", s.State)
			}
			if left := c.network.Slots(); len(left) > 0 {
				t.Errorf("the paused sandbox has the networks %v", left)
			}
			other()
			c.restart()
			check(t, actResume.do(t.Context(), c, c.of(ref).Ref))
			c.sound()
			c.empty()
		})
	}
}

// TestCoreWarmClonesOfARuntimeThatGoes: an agent without the driver of warm clones ends
// them.
func TestCoreWarmClonesOfARuntimeThatGoes(t *testing.T) {
	c := newCore(t, fastTemp(t))
	sentry := corePool
	sentry.Spec.Runtime = sandbox.RuntimeGVisor
	c.restart(sentry)
	awaitPool(t, c.Manager, 1)
	c.single = true
	met, agent := c.hook.arm(journal.StepCreateRecord, true), *c
	go func() { _ = create(t.Context(), &agent, sandbox.Ref{}, newRef()) }()
	<-met
	c.crash()
	c.sound()
	c.empty()
}

// TestCoreGroupEndsBeforeTheNetwork: processes that only the control group knows end
// before the network slot and its user id can be those of another sandbox.
func TestCoreGroupEndsBeforeTheNetwork(t *testing.T) {
	for _, k := range shapes(t) {
		t.Run(k.name, func(t *testing.T) {
			c := newCoreOf(t, k)
			killed := 0
			c.groups.Killing = func(id string) {
				killed++
				if len(c.network.Slots()) == 0 {
					t.Errorf("the control group %s ends after its network", id)
				}
			}
			ref := c.create() // builds the template, whose VM ends
			pauseSubject(c, ref)
			check(t, actResume.do(t.Context(), c, c.of(ref).Ref))
			check(t, c.Destroy(t.Context(), c.of(ref).Ref, ""))
			if killed != 3 {
				t.Errorf("%d control groups ended, want that of the template, of the pause and of the sandbox", killed)
			}
			c.empty()
		})
	}
}

// TestCoreImagesMove: paused sandboxes and snapshots find their root image by its digest
// after the directory of the images has moved.
func TestCoreImagesMove(t *testing.T) {
	for _, k := range shapes(t) {
		t.Run(k.name, func(t *testing.T) {
			c := newCoreOf(t, k)
			ref := c.create()
			takeSnapshot(c, ref)
			pauseSubject(c, ref)
			moved := filepath.Join(c.dir, "moved")
			check(t, os.Rename(filepath.Join(c.dir, "images"), moved))
			var err error
			c.images, err = fakes.NewImages(moved)
			check(t, err)
			c.restart()
			check(t, actResume.do(t.Context(), c, c.of(ref).Ref))
			_, err = c.CreateFrom(t.Context(), newRef(), coreSpec, coreSnapshot)
			check(t, err)
			c.sound()
			c.empty()
		})
	}
}

// TestCoreDamagedBase: a pause that is complete in itself is resumed although its base
// is damaged. One that is a difference from its base is refused, and stays.
func TestCoreDamagedBase(t *testing.T) {
	for _, k := range shapes(t) {
		t.Run(k.name, func(t *testing.T) {
			c := newCoreOf(t, k)
			ref := c.create()
			pauseSubject(c, ref)
			files, err := filepath.Glob(filepath.Join(c.templates, "*", "*"))
			check(t, err)
			damaged := 0
			for _, f := range files {
				if filepath.Base(f) != "manifest.json" {
					check(t, os.Chmod(f, 0o600))
					check(t, os.Truncate(f, 1))
					damaged++
				}
			}
			if damaged == 0 {
				t.Fatalf("no template has files: %v", files)
			}
			err = actResume.do(t.Context(), c, ref)
			if k.shape.DeltaIsWhole {
				check(t, err)
				ref.Generation++
				if got := c.read(ref, mark); got != string(ref.ID) {
					t.Errorf("the sandbox's file holds %q", got)
				}
				return
			}
			if s := c.of(ref); fault.ReasonOf(err) != "snapshot_damaged" || s.State != sandbox.Paused {
				t.Errorf("resume: %v, and the sandbox is %s; want snapshot_damaged and paused", err, s.State)
			}
		})
	}
}
