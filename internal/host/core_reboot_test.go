package host_test

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/fake"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// awaitPause waits until the sandbox of ref is paused, and reports whether it has no memory.
func (c *core) awaitPause(ref sandbox.Ref) (diskOnly bool) {
	c.t.Helper()
	changes, cancel := c.Subscribe()
	defer cancel()
	for s := c.of(ref); ; {
		if s.Ref.ID == ref.ID && s.State == sandbox.Paused {
			return s.DiskOnly
		}
		select {
		case s = <-changes:
		case <-c.t.Context().Done():
			c.t.Fatalf("the sandbox is %s, want paused", c.of(ref).State)
		}
	}
}

// TestCoreTimeoutWithoutMemory: where the pause of a sandbox that timed out cannot be one
// without memory, the memory is kept, so that the host is free in any case.
func TestCoreTimeoutWithoutMemory(t *testing.T) {
	for _, k := range shapes(t) {
		t.Run(k.name, func(t *testing.T) {
			c := newCoreOf(t, k)
			for _, fails := range []string{"", journal.StepPauseQuiesce, journal.StepPauseSave} {
				if fails != "" {
					c.hook.arm(fails, false)
				}
				spec := coreSpec
				spec.Timeout, spec.OnTimeout, spec.PauseDiskOnly = 10*time.Millisecond, sandbox.TimeoutPause, true
				ref := newRef()
				_, err := c.Create(t.Context(), ref, spec)
				check(t, err)
				if diskOnly := c.awaitPause(ref); diskOnly != (fails == "") {
					t.Errorf("failed step %q: paused without memory is %t, want %t", fails, diskOnly, fails == "")
				}
				check(t, c.Destroy(t.Context(), ref, ""))
			}
		})
	}
}

// mute is a driver whose next restored VM, once armed, has a guest that does not answer.
type mute struct {
	vmm.Driver
	machine *fake.Host
	armed   atomic.Bool
}

func (d *mute) Restore(ctx context.Context, cfg vmm.Config, from vmm.Image) (vmm.VM, error) {
	vm, err := d.Driver.Restore(ctx, cfg, from)
	if err == nil && d.armed.CompareAndSwap(true, false) {
		d.machine.Silence(vm.Record(), true)
	}
	return vm, err
}

// TestCoreRebootOfASilentGuest: a full pause is not booted from a disk that its guest has not
// completed. Where the VMM has the disk, the guest is not needed.
func TestCoreRebootOfASilentGuest(t *testing.T) {
	for _, k := range shapes(t) {
		t.Run(k.name, func(t *testing.T) {
			c := newCoreOf(t, k)
			driver := &mute{machine: c.machine}
			c.wrap = func(d vmm.Driver) vmm.Driver { driver.Driver = d; return driver }
			c.change = func(cfg *host.Config) { cfg.GuestTimeout = 2 * time.Second }
			c.restart()
			ref := c.create()
			pauseSubject(c, ref)
			driver.armed.Store(true)
			ref.Generation++
			_, err := c.Reboot(t.Context(), ref)
			if !k.shape.DiskInSnapshot {
				if !fault.Is(err, fault.Unavailable) || fault.ReasonOf(err) != "guest_unresponsive" || c.of(ref).State != sandbox.Paused {
					t.Fatalf("reboot with a silent guest: %v, the sandbox is %s; want guest_unresponsive and paused", err, c.of(ref).State)
				}
				_, err = c.Reboot(t.Context(), ref)
			}
			check(t, err)
			if got := c.read(ref, mark); got != string(ref.ID) {
				t.Errorf("the sandbox's file holds %q", got)
			}
			c.sound()
			c.empty()
		})
	}
}

// TestCoreEndedByABootOnce: processes count as ended by a boot when the boot is committed,
// and each is listed once.
func TestCoreEndedByABootOnce(t *testing.T) {
	c := newCore(t, fastTemp(t))
	ref := c.create()
	const id = "endedbyaboot"
	call := func(op *guestv1.ProcessCall) []*guestv1.ProcessRecord {
		t.Helper()
		answer, err := c.CallProcess(t.Context(), ref, op)
		check(t, err)
		return answer.GetProcesses()
	}
	call(&guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Start{Start: &guestv1.StartProcess{
		Id: id, Start: &process.StartRequest{Process: &process.ProcessConfig{Cmd: "sleep", Args: []string{"1000"}}, Stdin: new(bool)},
	}}})
	pauseSubjectsDisk(c, ref)
	dir := filepath.Join(c.dir, "data", "sandboxes", string(ref.ID))
	ended, next, block := filepath.Join(dir, "processes"), filepath.Join(dir, "processes.next"), filepath.Join(dir, "record.json.tmp")

	reached, unblock := c.hook.hold(journal.StepResumeCommit)
	result := make(chan error, 1)
	ref.Generation++
	go func() { _, err := c.Reboot(t.Context(), ref); result <- err }()
	<-reached
	check(t, os.Mkdir(block, 0o700)) // the record cannot be written
	unblock()
	if err := <-result; err == nil {
		t.Fatal("a boot whose record cannot be written succeeded")
	}
	if _, err := os.Stat(ended); !os.IsNotExist(err) {
		t.Errorf("after the boot that failed, its processes count as ended: %v", err)
	}
	check(t, os.Remove(block))
	ref.Generation++
	_, err := c.Reboot(t.Context(), ref)
	check(t, err)

	// The agent may end between the commit and its next action.
	check(t, c.Close())
	check(t, os.Rename(ended, next))
	c.open()
	list := call(&guestv1.ProcessCall{Operation: &guestv1.ProcessCall_List{List: &guestv1.ListProcesses{}}})
	if len(list) != 1 || list[0].GetId() != id || !list[0].GetRebooted() {
		t.Errorf("after the boot: %v, want the process %s once, ended by the boot", list, id)
	}
}
