package storetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// testClocksCompareAndSet: each field that was read must still be so.
func testClocksCompareAndSet(t *testing.T, open Open) {
	s := open(t)
	Host(t, s, "h", 4)
	ends := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	row := NewRow("h")
	row.Spec.Timeout, row.Spec.Lifetime = time.Minute, time.Hour
	row = Insert(t, s, row)
	row, won, err := s.Move(t.Context(), control.Move{
		Ref: row.Ref(), From: sandbox.Pending, To: sandbox.Running, Runtime: &control.RuntimeInfo{LifetimeEndsAt: ends},
	})
	if err != nil || !won {
		t.Fatal(won, err)
	}
	to := control.Timeouts{Idle: 2 * time.Minute, Lifetime: 2 * time.Hour, OnTimeout: sandbox.TimeoutPause}
	later := ends.Add(time.Hour)
	for name, change := range map[string]func(*control.Sandbox){
		"generation":  func(r *control.Sandbox) { r.Generation++ },
		"state":       func(r *control.Sandbox) { r.State = sandbox.Paused },
		"idle":        func(r *control.Sandbox) { r.Spec.Timeout++ },
		"lifetime":    func(r *control.Sandbox) { r.Spec.Lifetime++ },
		"on_timeout":  func(r *control.Sandbox) { r.Spec.OnTimeout = sandbox.TimeoutPause },
		"auto_resume": func(r *control.Sandbox) { r.Spec.AutoResume = true },
		"end":         func(r *control.Sandbox) { r.LifetimeEndsAt = &later },
		"no end":      func(r *control.Sandbox) { r.LifetimeEndsAt = nil },
	} {
		was := row
		change(&was)
		now, won, err := s.SetClocks(t.Context(), control.ClockChange{Was: was, Timeouts: to})
		if err != nil || won || !cmp.Equal(now, row) {
			t.Errorf("%s: won %t, %v", name, won, err)
		}
	}
	now, won, err := s.SetClocks(t.Context(), control.ClockChange{Was: row, Timeouts: to, AutoResume: true, LifetimeEndsAt: &later})
	want := row
	want.Spec.Timeout, want.Spec.Lifetime, want.Spec.OnTimeout, want.Spec.AutoResume = to.Idle, to.Lifetime, to.OnTimeout, true
	want.LifetimeEndsAt = &later
	if diff := cmp.Diff(want, now); err != nil || !won || diff != "" {
		t.Errorf("won %t, %v\n%s", won, err, diff)
	}
	// A host's report from before the change does not undo it.
	old := control.ObservedSandbox{Ref: row.Ref(), Spec: sandbox.Spec{Lifetime: time.Hour}, Runtime: control.RuntimeInfo{LifetimeEndsAt: ends}}
	if err := s.SaveRuntime(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(t.Context(), row.ID); err != nil || !got.LifetimeEndsAt.Equal(later) {
		t.Errorf("the end is %v, %v, want %v", got.LifetimeEndsAt, err, later)
	}
}
