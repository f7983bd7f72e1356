package control_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/memstore"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// slowStore answers the reconciler's read of rows once open is closed.
type slowStore struct {
	*memstore.Store
	open chan struct{}
}

// Unended implements control.Store.
func (s *slowStore) Unended(ctx context.Context, hostID string) ([]control.Sandbox, error) {
	select {
	case <-s.open:
		return s.Store.Unended(ctx, hostID)
	case <-ctx.Done():
		return nil, fault.As(ctx.Err())
	}
}

// startOver starts a server on a database that another server left, whose only
// sandbox was paused while no server ran.
func startOver(t *testing.T) (*control.Service, *slowStore, sandbox.ID) {
	t.Helper()
	store, host := &slowStore{memstore.New(time.Now), make(chan struct{})}, newFakeHost("h1")
	newServer := func() *control.Service {
		s, err := control.New(control.DefaultConfig(), store, newFakeFleet(host), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	row, err := newServer().Create(t.Context(), control.NewSandbox{})
	if err != nil {
		t.Fatal(err)
	}
	host.vms[row.ID].State = control.VMPaused
	s := newServer()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, func() {}) }()
	t.Cleanup(func() { cancel(); <-ended })
	return s, store, row.ID
}

// TestReadyAfterTheFirstPass: a server that has just started is ready once its rows
// show the changes that happened while no server ran.
func TestReadyAfterTheFirstPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, store, id := startOver(t)
		synctest.Wait()
		wantFault(t, s.Ready(t.Context()), fault.Unavailable, "first_pass_pending")
		close(store.open)
		synctest.Wait()
		if err := s.Ready(t.Context()); err != nil {
			t.Error("after the first pass:", err)
		}
		if row, err := s.Get(t.Context(), id); err != nil || row.State != sandbox.Paused {
			t.Errorf("a ready server shows the sandbox as %s, %v; want paused", row.State, err)
		}
	})
}

// TestReadyWithoutTheFirstPass: a pass that does not end delays readiness for ten
// seconds, not longer.
func TestReadyWithoutTheFirstPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := startOver(t)
		time.Sleep(10*time.Second - time.Millisecond)
		wantFault(t, s.Ready(t.Context()), fault.Unavailable, "first_pass_pending")
		time.Sleep(time.Millisecond)
		if err := s.Ready(t.Context()); err != nil {
			t.Error("after ten seconds without a first pass:", err)
		}
	})
}
