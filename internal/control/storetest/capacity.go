package storetest

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// testCapacityUnderRace has 50 creates and 10 resumes fight for 20 places.
func testCapacityUnderRace(t *testing.T, open Open) {
	s := open(t)
	const places, creates, resumes = 20, 50, 10
	Host(t, s, "h", places)
	var paused []control.Sandbox
	for range resumes {
		paused = append(paused, Walk(t, s, Insert(t, s, NewRow("h")), sandbox.Running, sandbox.Paused))
	}
	var (
		wg    sync.WaitGroup
		taken atomic.Int32
	)
	count := func(err error) {
		switch {
		case err == nil:
			taken.Add(1)
		case !fault.Is(err, fault.NoCapacity):
			t.Error(err)
		}
	}
	for range creates {
		wg.Go(func() {
			_, err := s.Insert(t.Context(), NewRow("h"))
			count(err)
		})
	}
	for _, row := range paused {
		wg.Go(func() {
			_, _, err := s.Move(t.Context(), control.Move{Ref: row.Ref(), From: sandbox.Paused, To: sandbox.Resuming})
			count(err)
		})
	}
	wg.Wait()
	if taken.Load() != places {
		t.Errorf("%d got a place, there are %d", taken.Load(), places)
	}
	used, err := s.Usage(t.Context())
	if want := (control.Capacity{VCPUs: places, MemoryMB: places * 512}); err != nil || used["h"] != want {
		t.Errorf("usage %+v, %v, want %+v", used["h"], err, want)
	}
}

func testCapacityIsGivenBack(t *testing.T, open Open) {
	for _, end := range []sandbox.State{sandbox.Paused, sandbox.Stopped} {
		s := open(t)
		Host(t, s, "h", 1)
		row := Walk(t, s, Insert(t, s, NewRow("h")), sandbox.Running)
		if _, err := s.Insert(t.Context(), NewRow("h")); !fault.Is(err, fault.NoCapacity) {
			t.Errorf("a full host: %v, want NoCapacity", err)
		}
		Walk(t, s, row, end)
		Insert(t, s, NewRow("h"))
	}
}

// testResumeWithoutRoom shows that a refused resume leaves the row as it was.
func testResumeWithoutRoom(t *testing.T, open Open) {
	s := open(t)
	Host(t, s, "h", 1)
	row := Walk(t, s, Insert(t, s, NewRow("h")), sandbox.Running, sandbox.Paused)
	Insert(t, s, NewRow("h"))
	_, won, err := s.Move(t.Context(), control.Move{Ref: row.Ref(), From: sandbox.Paused, To: sandbox.Resuming})
	if won || !fault.Is(err, fault.NoCapacity) {
		t.Errorf("resume: won %t, %v, want NoCapacity", won, err)
	}
	after, err := s.Get(t.Context(), row.ID)
	if err != nil || after.State != sandbox.Paused || after.Generation != row.Generation {
		t.Errorf("after: %+v, %v", after, err)
	}
	// Destroying a paused sandbox needs no capacity.
	Walk(t, s, row, sandbox.Stopping, sandbox.Stopped)
}

func testInsertOnUnknownHost(t *testing.T, open Open) {
	s := open(t)
	_, err := s.Insert(t.Context(), NewRow("nobody"))
	if !fault.Is(err, fault.NoCapacity) || fault.ReasonOf(err) != control.ReasonHostNotRecorded {
		t.Errorf("%v, want NoCapacity %s", err, control.ReasonHostNotRecorded)
	}
}
