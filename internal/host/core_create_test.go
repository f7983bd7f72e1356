package host_test

import (
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestCoreRepeatedCreateNamesTheRuntime: a create that is repeated after an upgrade of
// the control plane names the runtime, which the record of the first one does not.
func TestCoreRepeatedCreateNamesTheRuntime(t *testing.T) {
	c := newCore(t, fastTemp(t))
	c.single = true
	c.restart()
	ref := c.create()
	spec := coreSpec
	spec.Runtime = sandbox.RuntimeMicroVM
	if again, err := c.Create(t.Context(), ref, spec); err != nil || again.Ref != ref {
		t.Errorf("a repeated create: %+v, %v", again, err)
	}
	spec.Runtime = sandbox.RuntimeGVisor
	if _, err := c.Create(t.Context(), ref, spec); fault.ReasonOf(err) != "sandbox_exists" {
		t.Errorf("a create of the same id with another runtime: %v, want sandbox_exists", err)
	}
	if _, err := c.Create(t.Context(), newRef(), spec); fault.ReasonOf(err) != "runtime_unavailable" {
		t.Errorf("a create with a runtime that the host does not offer: %v", err)
	}
}

// TestCoreCreateDoesNotWaitForALongTemplate: a create that meets a template that takes too
// long fails with the reason and leaves nothing, and one after the build succeeds.
func TestCoreCreateDoesNotWaitForALongTemplate(t *testing.T) {
	c := newCore(t, fastTemp(t))
	c.change = func(cfg *host.Config) { cfg.TemplateWait = time.Millisecond }
	c.restart()
	_, release := c.hook.hold(journal.StepTemplateWarm)
	for range 2 { // the second joins the build of the first
		if _, err := c.Create(t.Context(), newRef(), coreSpec); !fault.Is(err, fault.Unavailable) || fault.ReasonOf(err) != "template_preparing" {
			t.Errorf("a create while the template is being made: got %v, want template_preparing", err)
		}
	}
	for _, s := range c.List() {
		if s.State != sandbox.Stopped || s.StopReason != sandbox.ReasonBootFailed {
			t.Errorf("a create left a sandbox that is %s (%s), want stopped", s.State, s.StopReason)
		}
	}
	release()
	for {
		_, err := c.Create(t.Context(), newRef(), coreSpec)
		if err == nil {
			break
		}
		if fault.ReasonOf(err) != "template_preparing" {
			t.Fatalf("a create after the build: got %v, want success", err)
		}
	}
	builds := 0
	for _, step := range c.hook.begun() {
		if step == journal.StepTemplateWarm {
			builds++
		}
	}
	if builds != 1 {
		t.Errorf("the template was made %d times, want once", builds)
	}
}

// TestCoreStageOfACreate: while the first create from an image makes its snapshot, the
// sandbox shows how far that is, and none when it runs.
func TestCoreStageOfACreate(t *testing.T) {
	for step, want := range map[string]string{
		journal.StepTemplateGuest: "booting_template", journal.StepTemplateSave: "saving_template", journal.StepCreateVMM: "starting",
	} {
		c := newCore(t, fastTemp(t))
		c.single = true
		c.restart()
		reached, unblock := c.hook.hold(step)
		ref, ended := newRef(), make(chan error, 1)
		go func() {
			_, err := c.Create(t.Context(), ref, coreSpec)
			ended <- err
		}()
		select {
		case <-reached:
			got, err := c.Get(ref.ID)
			if err != nil || got.Stage != want {
				t.Errorf("at %s: stage %q, %v; want %q", step, got.Stage, err, want)
			}
			unblock()
			check(t, <-ended)
		case err := <-ended:
			t.Fatalf("the create ended without the step %s: %v", step, err)
		}
		if got, err := c.Get(ref.ID); err != nil || got.Stage != "" {
			t.Errorf("a running sandbox has the stage %q, %v", got.Stage, err)
		}
	}
}
