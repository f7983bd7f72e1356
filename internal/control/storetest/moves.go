package storetest

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func testInsertGetMove(t *testing.T, open Open) {
	s := open(t)
	Host(t, s, "h", 4)
	in := NewRow("h")
	in.Spec.Timeout, in.Spec.MinIsolation = 300*time.Second, sandbox.IsolationProcess
	in.Spec.Env = map[string]string{"SECRET": "x"}
	in.Metadata = map[string]string{"a": "b\"\\ü"}
	in.Spec.Lifetime, in.Spec.OnTimeout, in.Spec.AutoResume = time.Hour, sandbox.TimeoutPause, true
	in.SnapshotID, in.ParentID, in.Spec.Runtime = "snap", "parent", sandbox.RuntimeGVisor
	in.Acceleration, in.Isolation = "tcg", sandbox.IsolationProcess
	stored := Insert(t, s, in)
	if stored.CreatedAt.IsZero() || stored.UpdatedAt.IsZero() || stored.Spec.Env != nil {
		t.Errorf("stored: %+v", stored)
	}
	want := in
	want.Spec.Env, want.CreatedAt, want.UpdatedAt = nil, stored.CreatedAt, stored.UpdatedAt
	got, err := s.Get(t.Context(), in.ID)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Get: %v\n%s", err, diff)
	}

	started := time.Now().UTC().Truncate(time.Microsecond)
	ends := started.Add(time.Hour)
	report := &sandbox.RestoreReport{
		At: started, Generation: 1, ClockStep: -3, ClockSkew: 4, Reseeded: true, NewIdentity: true, TokenReplaced: true,
		NetworkAnswers: true, VMGeneration: "vmgenid", ConnectionsClosed: 2, Steps: map[string]time.Duration{"clock": 5},
	}
	running, won, err := s.Move(t.Context(), control.Move{
		Ref: in.Ref(), From: sandbox.Pending, To: sandbox.Running,
		Runtime: &control.RuntimeInfo{
			GuestIP: "10.0.0.2", HostIP: "10.11.0.1", Acceleration: "kvm",
			Isolation: sandbox.IsolationHardware, StartedAt: started, LifetimeEndsAt: ends, RestoreReport: report, Source: "pool",
		},
	})
	want.State, want.GuestIP, want.HostIP = sandbox.Running, "10.0.0.2", "10.11.0.1"
	want.Acceleration, want.Isolation, want.StartedAt = "kvm", sandbox.IsolationHardware, &started
	want.LastActiveAt, want.LifetimeEndsAt, want.RestoreReport, want.Source = &started, &ends, report, "pool"
	want.UpdatedAt = running.UpdatedAt
	if diff := cmp.Diff(want, running); err != nil || !won || diff != "" {
		t.Errorf("Move: won %t, %v\n%s", won, err, diff)
	}

	ended, won, err := s.Move(t.Context(), control.Move{
		Ref: in.Ref(), From: sandbox.Running, To: sandbox.Stopped,
		StopReason: sandbox.ReasonOOM, Message: "too big",
	})
	if err != nil || !won || ended.EndedAt == nil || ended.StopReason != sandbox.ReasonOOM || ended.Message != "too big" ||
		ended.LifetimeEndsAt != nil {
		t.Errorf("end: won %t, %v, %+v", won, err, ended)
	}
}

// testMoveActive: a resume is use, and an older report does not take use back.
func testMoveActive(t *testing.T, open Open) {
	s := open(t)
	Host(t, s, "h", 4)
	row := Insert(t, s, NewRow("h"))
	started := time.Now().UTC().Truncate(time.Microsecond)
	runtime := &control.RuntimeInfo{StartedAt: started}
	move := func(from, to sandbox.State, active time.Time) {
		t.Helper()
		m := control.Move{Ref: row.Ref(), From: from, To: to, ActiveAt: active}
		if to == sandbox.Running {
			m.Runtime = runtime
		}
		var won bool
		var err error
		if row, won, err = s.Move(t.Context(), m); err != nil || !won {
			t.Fatalf("move from %s to %s: won %t, %v", from, to, won, err)
		}
	}
	want := func(at time.Time) {
		t.Helper()
		if row.LastActiveAt == nil || !row.LastActiveAt.Equal(at) {
			t.Errorf("last active %v, want %v", row.LastActiveAt, at)
		}
	}
	move(sandbox.Pending, sandbox.Running, time.Time{})
	want(started)
	move(sandbox.Running, sandbox.Pausing, time.Time{})
	move(sandbox.Pausing, sandbox.Paused, time.Time{})
	move(sandbox.Paused, sandbox.Resuming, time.Time{})
	resumed := started.Add(20 * time.Minute)
	move(sandbox.Resuming, sandbox.Running, resumed)
	want(resumed)
	move(sandbox.Running, sandbox.Pausing, started)
	want(resumed)
}

func testGetUnknown(t *testing.T, open Open) {
	s := open(t)
	if _, err := s.Get(t.Context(), "nosuch"); !fault.Is(err, fault.NotFound) {
		t.Errorf("Get: %v, want NotFound", err)
	}
	m := control.Move{Ref: sandbox.Ref{ID: "nosuch", Generation: 1}, From: sandbox.Running, To: sandbox.Pausing}
	if _, won, err := s.Move(t.Context(), m); won || !fault.Is(err, fault.NotFound) {
		t.Errorf("Move: won %t, %v, want NotFound", won, err)
	}
}

// testMoveLegality tries every pair of states: a move that CanMove forbids is refused
// before the database is asked, and every other move succeeds.
func testMoveLegality(t *testing.T, open Open) {
	s := open(t)
	Host(t, s, "h", 1000)
	path := map[sandbox.State][]sandbox.State{
		sandbox.Pending:  nil,
		sandbox.Running:  {sandbox.Running},
		sandbox.Pausing:  {sandbox.Running, sandbox.Pausing},
		sandbox.Paused:   {sandbox.Running, sandbox.Paused},
		sandbox.Resuming: {sandbox.Running, sandbox.Paused, sandbox.Resuming},
		sandbox.Stopping: {sandbox.Stopping},
		sandbox.Stopped:  {sandbox.Stopped},
		sandbox.Error:    {sandbox.Error},
	}
	for _, from := range sandbox.States() {
		for _, to := range sandbox.States() {
			row := Walk(t, s, Insert(t, s, NewRow("h")), path[from]...)
			after, won, err := s.Move(t.Context(), control.Move{Ref: row.Ref(), From: from, To: to})
			if !sandbox.CanMove(from, to) {
				if fault.ReasonOf(err) != "illegal_move" {
					t.Errorf("%s to %s: %v, want illegal_move", from, to, err)
				}
				continue
			}
			if err != nil || !won || after.State != to {
				t.Errorf("%s to %s: won %t, state %s, %v", from, to, won, after.State, err)
			}
			if grown := after.Generation > row.Generation; grown != (to == sandbox.Resuming) {
				t.Errorf("%s to %s: generation %d to %d", from, to, row.Generation, after.Generation)
			}
			if (after.EndedAt != nil) != to.Ended() {
				t.Errorf("%s to %s: ended at %v", from, to, after.EndedAt)
			}
		}
	}
}

func testMoveRace(t *testing.T, open Open) {
	s := open(t)
	Host(t, s, "h", 1)
	row := Walk(t, s, Insert(t, s, NewRow("h")), sandbox.Running)
	var (
		wg   sync.WaitGroup
		wins atomic.Int32
	)
	for i := range 8 {
		to := []sandbox.State{sandbox.Pausing, sandbox.Stopping}[i%2]
		wg.Go(func() {
			now, won, err := s.Move(t.Context(), control.Move{Ref: row.Ref(), From: sandbox.Running, To: to})
			if err != nil {
				t.Error(err)
			}
			if won {
				wins.Add(1)
			}
			if now.State == sandbox.Running {
				t.Error("a loser was given the row as it was before")
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 {
		t.Errorf("%d movers won, want 1", wins.Load())
	}
}

func testMoveOldGeneration(t *testing.T, open Open) {
	s := open(t)
	Host(t, s, "h", 1)
	old := Walk(t, s, Insert(t, s, NewRow("h")), sandbox.Running)
	Walk(t, s, old, sandbox.Paused, sandbox.Resuming, sandbox.Running)
	now, won, err := s.Move(t.Context(), control.Move{Ref: old.Ref(), From: sandbox.Running, To: sandbox.Stopped, StopReason: sandbox.ReasonVMMCrash})
	if err != nil || won || now.State != sandbox.Running || now.Generation != 2 {
		t.Errorf("an old incarnation's end: won %t, %v, %+v", won, err, now)
	}
}
