package auth_test

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/auth"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/pgtest"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// switchStore is a real store that can be cut off.
type switchStore struct {
	auth.Store
	down bool
}

func (s *switchStore) UsableKey(ctx context.Context, prefix string) (control.APIKey, error) {
	if s.down {
		return control.APIKey{}, fault.New(fault.Internal, "database_unavailable", "down")
	}
	return s.Store.UsableKey(ctx, prefix)
}

func setup(t *testing.T) (*auth.Service, *switchStore) {
	t.Helper()
	t.Parallel()
	store := &switchStore{Store: pgtest.Open(t)}
	s, err := auth.New(store)
	if err != nil {
		t.Fatal(err)
	}
	return s, store
}

func TestKeyLife(t *testing.T) {
	s, _ := setup(t)
	if any, err := s.Any(t.Context()); any || err != nil {
		t.Errorf("Any before there is one: %t, %v", any, err)
	}
	k, key, err := s.Create(t.Context(), "ci")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^wrn_[0-9a-f]{40}$`).MatchString(key) || !strings.HasPrefix(key, k.Prefix) || k.CreatedAt.IsZero() {
		t.Errorf("key %s, stored %+v", key, k)
	}
	if any, err := s.Any(t.Context()); !any || err != nil {
		t.Errorf("Any: %t, %v", any, err)
	}
	p, err := s.Authenticate(t.Context(), key)
	if err != nil || p != (auth.Principal{KeyID: k.ID}) {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := s.Authenticate(t.Context(), "e2b_"+strings.TrimPrefix(key, "wrn_")); err != nil || p.KeyID != k.ID {
		t.Errorf("the key in the form of E2B's clients: %+v, %v, want the same principal", p, err)
	}
	keys, err := s.List(t.Context())
	if err != nil || len(keys) != 1 || keys[0].LastUsedAt == nil || strings.Contains(string(keys[0].Hash), key[4:]) {
		t.Errorf("%+v, %v", keys, err)
	}

	for range 2 {
		if err := s.Revoke(t.Context(), k.ID); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Authenticate(t.Context(), key); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a revoked key: %v", err)
	}
	if any, err := s.Any(t.Context()); any || err != nil {
		t.Errorf("Any after the last is revoked: %t, %v", any, err)
	}
	if keys, err := s.List(t.Context()); err != nil || len(keys) != 1 || keys[0].RevokedAt == nil {
		t.Errorf("%+v, %v", keys, err)
	}
}

func TestRefused(t *testing.T) {
	s, store := setup(t)
	_, key, err := s.Create(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	last := "0"
	if strings.HasSuffix(key, "0") {
		last = "1"
	}
	for name, presented := range map[string]string{
		"empty": "", "short": key[:len(key)-1], "long": key + "0", "upper": strings.ToUpper(key),
		"no start": key[4:], "another": "wrn_" + strings.Repeat("0", 40), "same prefix": key[:len(key)-1] + last,
		"NUL": key[:len(key)-1] + "\x00",
	} {
		if _, err := s.Authenticate(t.Context(), presented); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s: %v, want Unauthenticated", name, err)
		}
	}
	// Not being able to ask is not a refusal.
	store.down = true
	if _, err := s.Authenticate(t.Context(), key); !fault.Is(err, fault.Internal) {
		t.Errorf("store down: %v, want Internal", err)
	}
	for _, name := range []string{"", strings.Repeat("x", 101), "a\nb"} {
		if _, _, err := s.Create(t.Context(), name); !fault.Is(err, fault.Invalid) {
			t.Errorf("name %q: %v, want Invalid", name, err)
		}
	}
	if err := s.Revoke(t.Context(), "nosuch"); !fault.Is(err, fault.NotFound) {
		t.Errorf("Revoke: %v, want NotFound", err)
	}
}

func TestPrincipalInContext(t *testing.T) {
	t.Parallel()
	if _, ok := auth.PrincipalOf(t.Context()); ok {
		t.Error("somebody in an empty context")
	}
	want := auth.Principal{KeyID: "key_1"}
	if got, ok := auth.PrincipalOf(auth.WithPrincipal(t.Context(), want)); !ok || got != want {
		t.Errorf("%+v, %t", got, ok)
	}
}
