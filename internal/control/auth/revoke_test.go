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
	// readOnly makes every write fail.
	readOnly bool
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

func (s *oneKey) TouchKey(context.Context, string) error {
	if s.readOnly {
		return fault.New(fault.Internal, "internal", "no space left")
	}
	s.touched++
	return nil
}

// TestRevokedElsewhere: a key that another process revokes is refused with the
// next request, and its use is recorded no more than once per interval.
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
		for _, want := range []int{1, 1, 2} {
			if _, err := s.Authenticate(t.Context(), key); err != nil || store.touched != want {
				t.Errorf("a good key: %v, touched %d times, want %d", err, store.touched, want)
			}
			time.Sleep(8 * time.Second)
		}
		store.readOnly = true
		time.Sleep(time.Minute)
		if _, err := s.Authenticate(t.Context(), key); err != nil {
			t.Errorf("a good key while the store cannot write: %v", err)
		}
		store.revoked = true
		if _, err := s.Authenticate(t.Context(), key); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("after it was revoked elsewhere: %v, want Unauthenticated", err)
		}
	})
}
