package auth_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/auth"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// oneKey is a store in memory, for the test of time. The others have a real one.
type oneKey struct {
	auth.Store
	key     control.APIKey
	revoked bool
	touched int
}

func (s *oneKey) InsertKey(_ context.Context, k control.APIKey) (control.APIKey, error) {
	s.key = k
	return k, nil
}

func (s *oneKey) UsableKey(_ context.Context, prefix string) (control.APIKey, error) {
	if s.revoked || prefix != s.key.Prefix {
		return control.APIKey{}, fault.New(fault.NotFound, "key_not_found", "no")
	}
	return s.key, nil
}

func (s *oneKey) TouchKey(context.Context, string) error { s.touched++; return nil }

// TestRevokedElsewhere shows how long a key lives on that another process has
// revoked.
func TestRevokedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &oneKey{}
		s, err := auth.New(store)
		if err != nil {
			t.Fatal(err)
		}
		_, key, err := s.Create(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Authenticate(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		store.revoked = true
		time.Sleep(14 * time.Second)
		if _, err := s.Authenticate(t.Context(), key); err != nil || store.touched != 1 {
			t.Errorf("within the cache's time: %v, touched %d times", err, store.touched)
		}
		time.Sleep(2 * time.Second)
		if _, err := s.Authenticate(t.Context(), key); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("after it: %v", err)
		}
	})
}
