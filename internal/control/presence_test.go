package control_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/memstore"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// lateStore lets a server be live only once it is open.
type lateStore struct {
	*memstore.Store
	open atomic.Bool
}

// HoldServer implements control.Store.
func (s *lateStore) HoldServer(ctx context.Context, id control.ServerID, held func()) error {
	if !s.open.Load() {
		return fault.New(fault.Unavailable, "database_unavailable", "the database is away")
	}
	return s.Store.HoldServer(ctx, id, held)
}

// TestReadyOnceLive: Run calls ready only when other servers can see that this one
// is live, and once, although the lock is taken again after a crash of the database.
func TestReadyOnceLive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &lateStore{Store: memstore.New(time.Now)}
		s, err := control.New(control.DefaultConfig(), store, newFakeFleet(newFakeHost("h1")), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		var ready atomic.Int32
		go func() { ended <- s.Run(ctx, func() { ready.Add(1) }) }()
		time.Sleep(time.Minute)
		if n := ready.Load(); n != 0 {
			t.Errorf("ready was called %d times before the server was live", n)
		}
		store.open.Store(true)
		time.Sleep(time.Minute)
		store.Crash(0)
		time.Sleep(time.Minute)
		live, err := store.LiveServers(t.Context(), []control.ServerID{s.ServerID()})
		if n := ready.Load(); n != 1 || err != nil || len(live) != 1 {
			t.Errorf("ready was called %d times, live are %v, %v; want once and this server", n, live, err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
