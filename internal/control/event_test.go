package control_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/memstore"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestEventDuringAnOperation: an event of a host that still has the state from before a
// pause changes nothing while the pause is in flight.
func TestEventDuringAnOperation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := newFakeHost("h1")
		s, err := control.New(control.DefaultConfig(), memstore.New(time.Now), newFakeFleet(host), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx, func() {}) }()
		defer func() { cancel(); <-ended }()
		synctest.Wait() // the loop watches the host
		row, err := s.Create(t.Context(), control.NewSandbox{})
		if err != nil {
			t.Fatal(err)
		}
		pausing := newGate()
		host.script(true, "pause", pausing.wait)
		paused := make(chan error, 1)
		go func() { _, err := s.Pause(t.Context(), row.ID); paused <- err }()
		<-pausing.entered
		host.put(*host.vms[row.ID])
		synctest.Wait()
		if now, err := s.Get(t.Context(), row.ID); err != nil || now.State != sandbox.Pausing {
			t.Errorf("after the event the row is %s, %v; want pausing", now.State, err)
		}
		close(pausing.open)
		if err := <-paused; err != nil {
			t.Error(err)
		}
	})
}

// TestFailedCommandIsNotRepeated: a command that may have run is not given to the host
// again, although the sandbox still runs.
func TestFailedCommandIsNotRepeated(t *testing.T) {
	b := setup(t)
	row := b.create()
	for name, answer := range map[string]hook{
		"the answer is lost": lost,
		"the host fails":     refuse(fault.New(fault.HostFailed, "exec_failed", "the guest's connection broke")),
	} {
		before := b.host.count["exec"]
		b.host.script(false, "exec", answer)
		if _, err := b.Exec(t.Context(), row.ID, control.Exec{Cmd: "x"}, sink{new(bytes.Buffer)}); err == nil {
			t.Errorf("%s: the command succeeded", name)
		}
		if got := b.host.count["exec"] - before; got != 1 {
			t.Errorf("%s: the command was given to the host %d times, want once", name, got)
		}
	}
}

// TestPassDuringADestroy: a pass leaves the destroy of this server alone while it waits
// for its host.
func TestPassDuringADestroy(t *testing.T) {
	b := setup(t, func(c *control.Config) { c.Grace = time.Hour })
	row := b.create()
	first := newGate()
	var commands atomic.Int32
	b.host.script(true, "destroy", func(ctx context.Context, ref sandbox.Ref) error {
		if commands.Add(1) > 1 {
			return nil
		}
		return first.wait(ctx, ref)
	})
	ended := make(chan error, 1)
	go func() { ended <- b.Destroy(t.Context(), row.ID) }()
	<-first.entered
	b.reconcile()
	if n := commands.Load(); n != 1 {
		t.Errorf("during the destroy the host got %d commands, want 1", n)
	}
	close(first.open)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	b.want(row.ID, sandbox.Stopped, sandbox.ReasonDestroyed, "")
}

// TestActivityOfWorkThatGoesOn: a command counts as use from its beginning, not only
// when it ends.
func TestActivityOfWorkThatGoesOn(t *testing.T) {
	b := setup(t)
	row := b.create()
	working := newGate()
	b.host.script(true, "exec", working.wait)
	ended := make(chan error, 1)
	go func() {
		_, err := b.Exec(t.Context(), row.ID, control.Exec{Cmd: "x"}, sink{new(bytes.Buffer)})
		ended <- err
	}()
	<-working.entered
	if err := b.FlushActivity(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := b.only(); now.LastActiveAt == nil || !now.LastActiveAt.After(*row.LastActiveAt) {
		t.Errorf("last active at %v during a command, want later than %v", now.LastActiveAt, row.LastActiveAt)
	}
	close(working.open)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
