package control_test

import (
	"sync"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func ptr[T any](v T) *T { return &v }

// given returns a pointer to v, or nil for the zero value.
func given[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return &v
}

// request returns the request for spec. Its zero fields are not given.
func request(spec sandbox.Spec) control.SpecRequest {
	return control.SpecRequest{
		Template: given(spec.Template), VCPUs: given(spec.VCPUs), MemoryMB: given(spec.MemoryMB), DiskMB: given(spec.DiskMB),
		Clocks: control.ClockRequest{
			Idle: &spec.Timeout, Lifetime: given(spec.Lifetime), OnTimeout: given(spec.OnTimeout), AutoResume: &spec.AutoResume,
		},
		Env: spec.Env, Hostname: spec.Hostname, MinIsolation: spec.MinIsolation, Runtime: spec.Runtime, PublicPorts: spec.PublicPorts,
		PublicTraffic: spec.PublicTraffic, RequestHost: spec.RequestHost, HTTPSPorts: spec.HTTPSPorts, Egress: spec.Egress, PauseDiskOnly: spec.PauseDiskOnly,
	}
}

// createWith creates a sandbox with a spec.
func (b *bundle) createWith(spec sandbox.Spec) control.Sandbox {
	b.t.Helper()
	row, err := b.Create(b.t.Context(), control.NewSandbox{Spec: request(spec)})
	if err != nil {
		b.t.Fatal("create:", err)
	}
	return row
}

// about checks that at is d from now, give or take a minute.
func about(t *testing.T, what string, at *time.Time, d time.Duration) {
	t.Helper()
	if at == nil || time.Until(*at) < d-time.Minute || time.Until(*at) > d+time.Minute {
		t.Errorf("%s is %v, want about %s from now", what, at, d)
	}
}

func TestCreateShowsClocksAndRestoreReport(t *testing.T) {
	b := setup(t)
	row := b.createWith(sandbox.Spec{Lifetime: time.Hour, OnTimeout: sandbox.TimeoutPause, AutoResume: true})
	about(t, "the end of the lifetime", row.LifetimeEndsAt, time.Hour)
	if row.RestoreReport == nil || !row.RestoreReport.Reseeded || row.Source != "restore" {
		t.Errorf("%+v", row)
	}
	if row.LastActiveAt == nil || !row.LastActiveAt.Equal(*row.StartedAt) {
		t.Errorf("last active %v, want the start %v", row.LastActiveAt, row.StartedAt)
	}
	vm := b.host.vms[row.ID].Spec
	if vm.Lifetime != time.Hour || vm.OnTimeout != sandbox.TimeoutPause {
		t.Errorf("the host was told %+v", vm)
	}
	paused, err := b.Pause(t.Context(), row.ID)
	if err != nil || paused.LifetimeEndsAt != nil {
		t.Errorf("the lifetime of a paused sandbox ends at %v, %v", paused.LifetimeEndsAt, err)
	}
	resumed, err := b.Resume(t.Context(), row.ID)
	if err != nil {
		t.Fatal(err)
	}
	about(t, "the end of the new lifetime", resumed.LifetimeEndsAt, time.Hour)
}

func TestSetTimeouts(t *testing.T) {
	b := setup(t)
	row := b.createWith(sandbox.Spec{Timeout: time.Minute})
	set := func(c control.ClockRequest) control.Sandbox {
		t.Helper()
		now, err := b.SetTimeouts(t.Context(), row.ID, c)
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	_, err := b.SetTimeouts(t.Context(), row.ID, control.ClockRequest{Extend: ptr(time.Hour)})
	wantFault(t, err, fault.WrongState, "no_lifetime")

	now := set(control.ClockRequest{Lifetime: ptr(time.Hour)})
	about(t, "the end", now.LifetimeEndsAt, time.Hour)
	if now.Spec.Timeout != time.Minute {
		t.Errorf("the idle clock became %s", now.Spec.Timeout)
	}
	now = set(control.ClockRequest{Extend: ptr(time.Hour)})
	about(t, "the extended end", now.LifetimeEndsAt, 2*time.Hour)
	now = set(control.ClockRequest{Extend: ptr(time.Hour)})
	about(t, "the end extended again", now.LifetimeEndsAt, 3*time.Hour)

	now = set(control.ClockRequest{Idle: ptr(2 * time.Minute), OnTimeout: ptr(sandbox.TimeoutPause)})
	about(t, "the end that was not touched", now.LifetimeEndsAt, 3*time.Hour)
	last := b.host.said[len(b.host.said)-1]
	if last.Lifetime != nil || *last.Idle != 2*time.Minute || *last.OnTimeout != sandbox.TimeoutPause {
		t.Errorf("the host was told %+v: a lifetime would begin anew", last)
	}
	told := len(b.host.said)
	if now = set(control.ClockRequest{AutoResume: ptr(true)}); !now.Spec.AutoResume || len(b.host.said) != told {
		t.Error("auto_resume is the control plane's alone")
	}
	if now = set(control.ClockRequest{Lifetime: ptr(time.Duration(0))}); now.LifetimeEndsAt != nil || now.Spec.Lifetime != 0 {
		t.Errorf("%+v", now)
	}
}

func TestSetTimeoutsRefused(t *testing.T) {
	b := setup(t)
	row := b.createWith(sandbox.Spec{Lifetime: time.Hour})
	for reason, c := range map[string]control.ClockRequest{
		"invalid_timeout":    {Idle: ptr(-time.Second)},
		"invalid_lifetime":   {Lifetime: ptr(time.Hour), Extend: ptr(time.Hour)},
		"invalid_on_timeout": {OnTimeout: ptr(sandbox.TimeoutAction("sleep"))},
	} {
		_, err := b.SetTimeouts(t.Context(), row.ID, c)
		wantFault(t, err, fault.Invalid, reason)
	}
	_, err := b.SetTimeouts(t.Context(), row.ID, control.ClockRequest{Extend: ptr(sandbox.MaxTimeoutSec * time.Second)})
	wantFault(t, err, fault.Invalid, "invalid_lifetime")
	_, err = b.SetTimeouts(t.Context(), "nosuch", control.ClockRequest{})
	wantFault(t, err, fault.NotFound, "sandbox_not_found")
	if err := b.Destroy(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	_, err = b.SetTimeouts(t.Context(), row.ID, control.ClockRequest{Idle: ptr(time.Hour)})
	wantFault(t, err, fault.WrongState, "sandbox_ended")
}

// TestSetTimeoutsOfPaused: its clocks do not run, and are the ones of its next
// start.
func TestSetTimeoutsOfPaused(t *testing.T) {
	b := setup(t)
	row := b.createWith(sandbox.Spec{Lifetime: time.Hour})
	if _, err := b.Pause(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	now, err := b.SetTimeouts(t.Context(), row.ID, control.ClockRequest{Extend: ptr(time.Hour)})
	if err != nil || now.LifetimeEndsAt != nil || now.Spec.Lifetime != 2*time.Hour {
		t.Errorf("%v, %+v", err, now)
	}
	if now, err = b.Resume(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	about(t, "the end", now.LifetimeEndsAt, 2*time.Hour)
}

// TestSetTimeoutsHostDown: the change stays, and a pass brings the host to it.
func TestSetTimeoutsHostDown(t *testing.T) {
	for _, pausedFirst := range []bool{false, true} {
		t.Run(map[bool]string{false: "running", true: "paused"}[pausedFirst], func(t *testing.T) {
			b := setup(t)
			row := b.createWith(sandbox.Spec{Timeout: time.Minute})
			if pausedFirst {
				if _, err := b.Pause(t.Context(), row.ID); err != nil {
					t.Fatal(err)
				}
			}
			b.host.script(true, "timeouts", lost)
			_, err := b.SetTimeouts(t.Context(), row.ID, control.ClockRequest{Idle: ptr(time.Hour), OnTimeout: ptr(sandbox.TimeoutPause)})
			wantFault(t, err, fault.HostFailed, "clocks_pending")
			b.reconcile() // the host still fails: nothing is lost
			b.host.script(true, "timeouts", nil)
			b.reconcile()
			vm := b.host.vms[row.ID].Spec
			if vm.Timeout != time.Hour || vm.OnTimeout != sandbox.TimeoutPause {
				t.Errorf("paused %t: the host has %+v", pausedFirst, vm)
			}
			told := len(b.host.said)
			b.reconcile()
			if len(b.host.said) != told {
				t.Error("the host is told again what it knows")
			}
		})
	}
}

// TestExtendAtOnce: no extension is lost, however many come at the same time.
func TestExtendAtOnce(t *testing.T) {
	b := setup(t)
	row := b.createWith(sandbox.Spec{Lifetime: time.Hour})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := b.SetTimeouts(t.Context(), row.ID, control.ClockRequest{Extend: ptr(time.Hour)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	now, err := b.Get(t.Context(), row.ID)
	if err != nil || now.Spec.Lifetime < 9*time.Hour-time.Minute || now.Spec.Lifetime > 9*time.Hour {
		t.Errorf("the lifetime is %s, %v, want 9h", now.Spec.Lifetime, err)
	}
}

// TestReconcileSavesRuntime has the host know of a lifetime and a restore report that the
// row has not.
func TestReconcileSavesRuntime(t *testing.T) {
	b := setup(t)
	row := b.createWith(sandbox.Spec{})
	ends := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	b.host.mu.Lock()
	b.host.vms[row.ID].Runtime.LifetimeEndsAt = ends
	b.host.vms[row.ID].Runtime.RestoreReport = &sandbox.RestoreReport{At: ends, VMGeneration: "vmgenid"}
	b.host.mu.Unlock()
	b.reconcile()
	now := b.only()
	if now.LifetimeEndsAt == nil || !now.LifetimeEndsAt.Equal(ends) || now.RestoreReport.VMGeneration != "vmgenid" {
		t.Errorf("%+v %+v", now, now.RestoreReport)
	}
}
