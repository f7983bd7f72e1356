package memstore_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/memstore"
	"github.com/wrenn-dev/wrenn/internal/control/storetest"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// open returns a store in which no two rows have one timestamp.
func open(*testing.T) control.Store {
	var ticks atomic.Int64
	return memstore.New(func() time.Time { return time.UnixMicro(1e15 + ticks.Add(1)) })
}

// TestContract runs the suite that the PostgreSQL store runs too.
func TestContract(t *testing.T) { storetest.Run(t, open) }

// TestTemplates runs the suite of templates that the PostgreSQL store runs too.
func TestTemplates(t *testing.T) {
	storetest.RunTemplates(t, func(t *testing.T) (control.Store, templates.Store) {
		s := open(t).(*memstore.Store)
		return s, s.Templates()
	})
}

// TestCrash: a crash takes back commits that did not wait for the disk, newest
// first, up to the last durable one, and ends the sessions of servers.
func TestCrash(t *testing.T) {
	t.Parallel()
	s := open(t).(*memstore.Store)
	storetest.Host(t, s, "h", 10)
	durable := storetest.Walk(t, s, storetest.Insert(t, s, storetest.NewRow("h")), sandbox.Running)
	storetest.Walk(t, s, durable, sandbox.Pausing)
	kept, lost := storetest.Insert(t, s, storetest.NewRow("h")), storetest.Insert(t, s, storetest.NewRow("h"))
	held, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- s.HoldServer(t.Context(), 1, func() { close(held) }) }()
	<-held
	if n := s.Relaxed(); n != 3 {
		t.Errorf("%d commits can be lost, want 3", n)
	}
	if ids := s.Crash(2); len(ids) != 1 || ids[0] != lost.ID {
		t.Errorf("the crash took back %v, want the newest insert", ids)
	}
	if err := <-ended; !fault.Is(err, fault.Unavailable) {
		t.Errorf("the session ended with %v, want Unavailable", err)
	}
	if _, err := s.Get(t.Context(), lost.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("the lost row: %v, want NotFound", err)
	}
	if row, err := s.Get(t.Context(), kept.ID); err != nil || row.State != sandbox.Pending {
		t.Errorf("the row that was kept: %+v, %v", row, err)
	}
	// The kept rows are durable now; a new relaxed move is not.
	again, err := s.Get(t.Context(), durable.ID)
	if err != nil || again.State != sandbox.Pausing {
		t.Fatalf("the pausing row: %+v, %v", again, err)
	}
	storetest.Walk(t, s, again, sandbox.Running, sandbox.Pausing)
	s.Crash(0)
	if row, err := s.Get(t.Context(), durable.ID); err != nil || row.State != sandbox.Running {
		t.Errorf("after a crash: %+v, %v, want running", row, err)
	}
}
