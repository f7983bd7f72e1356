package host_test

import (
	"errors"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/fake"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// checkpointedCore is a host whose driver saves the disk with the VM.
func checkpointedCore(t *testing.T) *core {
	t.Helper()
	return newCoreOf(t, kind{"checkpointed", fake.Checkpointed, fastTemp(t)})
}

// TestUnbootablePause: a sandbox that was paused without memory, and has files with holes
// that are too large for a boot, is resumed from the memory that the driver has saved all
// the same. A reboot is refused, and each crash or failure leaves it paused.
func TestUnbootablePause(t *testing.T) {
	c := checkpointedCore(t)
	ref := c.create()
	if _, err := c.sh(ref, "truncate -s 8M sparse"); err != nil {
		t.Fatal(err)
	}
	pauseSubjectsDisk(c, ref)
	paused := func(what string) {
		t.Helper()
		if s := c.of(ref); s.State != sandbox.Paused || !s.DiskOnly {
			t.Fatalf("%s: the sandbox is %q, disk only %t; want paused, true", what, s.State, s.DiskOnly)
		}
	}
	ref.Generation++
	if _, err := c.Reboot(t.Context(), ref); fault.ReasonOf(err) != "disk_too_large" {
		t.Fatalf("reboot: %v, want disk_too_large", err)
	}
	paused("after a reboot that was refused")

	ref.Generation++
	c.hook.arm("resume.configure", false)
	if _, err := c.Resume(t.Context(), ref); !errors.Is(err, errInjected) {
		t.Fatalf("a resume whose restore fails: %v, want the injected error", err)
	}
	paused("after a restore that failed")

	ref.Generation++
	reached := c.hook.arm("resume.configure", true)
	agent := c.Manager
	go func() { _, _ = agent.Resume(t.Context(), ref) }()
	<-reached
	c.crash()
	if s := c.of(ref); s.State == sandbox.Paused {
		paused("after a crash within the restore")
		ref.Generation++
		_, err := c.Resume(t.Context(), ref)
		check(t, err)
	}
	runs := func(what string) {
		t.Helper()
		if s := c.of(ref); s.State != sandbox.Running || s.DiskOnly {
			t.Fatalf("%s: the sandbox is %q, disk only %t; want running, false", what, s.State, s.DiskOnly)
		}
		if got := c.read(ref, mark); got != string(ref.ID) {
			t.Errorf("%s: the file holds %q, want %q", what, got, ref.ID)
		}
	}
	runs("after the resume")
	c.restart()
	runs("after a restart of the agent")
	_, err := c.Pause(t.Context(), ref)
	check(t, err)
	if c.of(ref).DiskOnly {
		t.Error("a full pause after it is said to have no memory")
	}
}

// TestResumeForUse: use of a sandbox resumes it after a full pause, and is refused after
// one without memory, also by the next agent.
func TestResumeForUse(t *testing.T) {
	c := checkpointedCore(t)
	ref := c.create()
	pauseSubject(c, ref)
	ref.Generation++
	_, err := c.ResumeForUse(t.Context(), ref)
	check(t, err)
	pauseSubjectsDisk(c, ref)
	for range 2 {
		ref.Generation++
		_, err := c.ResumeForUse(t.Context(), ref)
		if !fault.Is(err, fault.WrongState) || fault.ReasonOf(err) != "paused_without_memory" {
			t.Fatalf("a resume for use without memory: %v, want the wrong state paused_without_memory", err)
		}
		if s := c.of(ref); s.State != sandbox.Paused || !s.DiskOnly {
			t.Fatalf("after it the sandbox is %q, disk only %t; want paused, true", s.State, s.DiskOnly)
		}
		c.restart()
	}
	ref.Generation++
	_, err = c.Resume(t.Context(), ref)
	check(t, err)
}
