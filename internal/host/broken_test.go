package host_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// saboteur makes one step fail, or panic.
type saboteur struct {
	step  atomic.Pointer[string] // nil when it is not armed
	panic bool
	keep  bool // stays armed
}

func (s *saboteur) arm(step string) { s.step.Store(&step) }

func (s *saboteur) disarm() { s.step.Store(nil) }

func (s *saboteur) onStep(step string) error {
	armed := s.step.Load()
	if armed == nil || *armed != step {
		return nil
	}
	if !s.keep {
		s.disarm()
	}
	if s.panic {
		var nobody *strings.Builder
		nobody.Reset()
	}
	return errors.New("sabotage")
}

// TestHalfFreedMachine: of a sandbox whose VM has ended and whose teardown fails
// the end is told at once, nothing but destroy is accepted, and that works as
// soon as the fault has passed.
func TestHalfFreedMachine(t *testing.T) { onEachRuntime(t, halfFreedMachine) }

func halfFreedMachine(t *testing.T, r sandbox.Runtime) {
	for _, step := range []string{journal.StepDestroyVM, journal.StepDestroyCgroup, journal.StepDestroyNetwork, journal.StepDestroyFiles} {
		t.Run(step, func(t *testing.T) {
			fail := &saboteur{keep: true}
			b := newBenchOf(t, r, "whalf", func(cfg *host.Config) { cfg.OnStep = fail.onStep })
			ref := b.create()
			found, err := b.deps.Drivers.Find(b.dir)
			check(t, err)
			fail.arm(step)
			b.expectEnd(ref.ID, sandbox.ReasonVMMCrash, func() { check(t, syscall.Kill(found[0].PID, syscall.SIGKILL)) })
			for what, call := range map[string]func() error{
				"pause":       func() error { _, err := b.Pause(t.Context(), ref); return err },
				"force pause": func() error { _, err := b.ForcePause(t.Context(), ref); return err },
				"snapshot": func() error {
					_, err := b.Snapshot(t.Context(), ref, sandbox.NewSnapshotID(), false)
					return err
				},
				"resume": func() error {
					_, err := b.Resume(t.Context(), sandbox.Ref{ID: ref.ID, Generation: ref.Generation + 1})
					return err
				},
				"egress":   func() error { _, err := b.SetEgress(t.Context(), ref, sandbox.DenyAll()); return err },
				"timeouts": func() error { _, err := b.SetTimeouts(t.Context(), ref, host.Timeouts{}); return err },
				"exec":     func() error { _, err := b.trySh(t.Context(), ref, "true"); return err },
				"read": func() error {
					_, err := b.ReadFile(t.Context(), ref, guestclient.ReadFile{Path: "/etc/hostname"})
					return err
				},
			} {
				if err := call(); !fault.Is(err, fault.WrongState) || fault.ReasonOf(err) != "sandbox_stopped" {
					t.Errorf("%s of a half-freed sandbox: got %v, want wrong_state sandbox_stopped", what, err)
				}
			}
			if err := b.Destroy(t.Context(), ref, ""); fault.ReasonOf(err) != "teardown_failed" {
				t.Errorf("destroy while the fault lasts: got %v, want teardown_failed", err)
			}
			if s := b.state(ref.ID); s.State != sandbox.Stopped || s.StopReason != sandbox.ReasonVMMCrash {
				t.Errorf("it is %s (%s), want stopped (vmm_crash)", s.State, s.StopReason)
			}
			fail.disarm()
			check(t, b.Destroy(t.Context(), ref, ""))
			b.nothingLeft()
		})
	}
}

// TestHalfFreedPause: a paused sandbox of whose VM something could not be freed
// is paused, and can be resumed.
func TestHalfFreedPause(t *testing.T) { onEachRuntime(t, halfFreedPause) }

func halfFreedPause(t *testing.T, r sandbox.Runtime) {
	fail := &saboteur{}
	b := newBenchOf(t, r, "whalfp", func(cfg *host.Config) { cfg.OnStep = fail.onStep })
	ref := b.create()
	b.sh(ref, "echo kept >/dev/shm/kept")
	fail.arm(journal.StepPauseFree)
	s, err := b.Pause(t.Context(), ref)
	check(t, err)
	if s.State != sandbox.Paused {
		t.Fatalf("it is %s, want paused", s.State)
	}
	ref.Generation++
	_, err = b.Resume(t.Context(), ref)
	check(t, err)
	if got := b.sh(ref, "cat /dev/shm/kept"); got != "kept" {
		t.Fatalf("its memory holds %q after the resume, want kept", got)
	}
}

// TestPanickingStep: a panic in any step of an operation ends that operation,
// with an error, and neither the agent nor, unless it was being destroyed or
// had no memory to go back to, the sandbox.
func TestPanickingStep(t *testing.T) {
	sabotage := &saboteur{panic: true}
	b := newBench(t, "wpanic", func(cfg *host.Config) { cfg.OnStep = sabotage.onStep })
	bystander, ref := b.create(), b.create()
	b.sh(ref, "echo kept >/dev/shm/kept")
	expect := func(step string, err error) {
		t.Helper()
		if err == nil {
			t.Fatalf("%s panicked and its operation succeeded", step)
		}
		if text := fault.As(err).Public; strings.Contains(text, "goroutine") || strings.Contains(text, "nil pointer") {
			t.Fatalf("%s: a user reads %q", step, text)
		}
	}
	for _, step := range []string{journal.StepPauseGate, journal.StepPauseQuiesce, journal.StepPauseSave, journal.StepPauseCommit} {
		sabotage.arm(step)
		_, err := b.Pause(t.Context(), ref)
		expect(step, err)
		if got := b.sh(ref, "cat /dev/shm/kept"); got != "kept" {
			t.Fatalf("after %s panicked its memory holds %q, want kept", step, got)
		}
	}
	for _, step := range []string{
		journal.StepSnapshotPrepare, journal.StepSnapshotFreeze, journal.StepSnapshotSave, journal.StepSnapshotCommit,
	} {
		sabotage.arm(step)
		_, err := b.Snapshot(t.Context(), ref, sandbox.NewSnapshotID(), false)
		expect(step, err)
		if got := b.sh(ref, "cat /dev/shm/kept"); got != "kept" {
			t.Fatalf("after %s panicked its memory holds %q, want kept", step, got)
		}
	}
	_, err := b.Pause(t.Context(), ref)
	check(t, err)
	ref.Generation++
	for _, step := range []string{journal.StepResumeCheck, journal.StepResumeNetwork, journal.StepResumeVMM} {
		sabotage.arm(step)
		_, err := b.Resume(t.Context(), ref)
		expect(step, err)
		if s := b.state(ref.ID); s.State != sandbox.Paused {
			t.Fatalf("after %s panicked it is %s, want paused", step, s.State)
		}
	}
	_, err = b.Resume(t.Context(), ref)
	check(t, err)
	for _, step := range []string{journal.StepDestroyVM, journal.StepDestroyCommit} {
		sabotage.arm(step)
		expect(step, b.Destroy(t.Context(), ref, ""))
	}
	check(t, b.Destroy(t.Context(), ref, ""))
	for _, step := range []string{journal.StepCreateDisk, journal.StepCreateNetwork} {
		sabotage.arm(step)
		broken := newRef()
		_, err := b.Create(t.Context(), broken, smallSpec)
		expect(step, err)
		check(t, b.Destroy(t.Context(), broken, ""))
	}
	b.sh(bystander, "true")
}
