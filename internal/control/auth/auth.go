package auth

import (
	"context"
	"crypto/subtle"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Store keeps keys.
type Store interface {
	// InsertKey returns Exists when the prefix is taken.
	InsertKey(ctx context.Context, k control.APIKey) (control.APIKey, error)
	// UsableKey finds a key that is not revoked by its prefix, or NotFound.
	UsableKey(ctx context.Context, prefix string) (control.APIKey, error)
	ListKeys(ctx context.Context) ([]control.APIKey, error)
	AnyUsableKey(ctx context.Context) (bool, error)
	// RevokeKey returns NotFound for an unknown id.
	RevokeKey(ctx context.Context, id string) error
	// TouchKey records that the key was used.
	TouchKey(ctx context.Context, id string) error
}

// touchEvery is how often a key's last use is recorded: reading a key for each
// request is cheap, writing it is not.
const touchEvery = 15 * time.Second

// maxTouched bounds the remembered times of use.
const maxTouched = 4096

// Service makes, checks and revokes keys. It is safe for concurrent use.
//
// Every check asks the store, so that a key that another process has made or
// revoked counts with the next request.
type Service struct {
	store Store

	mu sync.Mutex // protects the following
	// touched holds when each key's use was last recorded, by the key's id.
	touched map[string]time.Time
}

// New returns a Service on store.
func New(store Store) (*Service, error) {
	if store == nil {
		return nil, fault.New(fault.Internal, "missing_dependency", "auth.New needs a store")
	}
	return &Service{store: store, touched: make(map[string]time.Time)}, nil
}

// maxName is the longest name of a key, in characters.
const maxName = 100

// createTries is how often Create looks for a free prefix. With 32 random bits
// even the first try hardly ever fails.
const createTries = 3

// Create makes a key. The plaintext is returned here and never again.
func (s *Service) Create(ctx context.Context, name string) (control.APIKey, string, error) {
	if n := utf8.RuneCountInString(name); n < 1 || n > maxName || !printable(name) {
		return control.APIKey{}, "", fault.New(fault.Invalid, "invalid_name",
			"a key's name has from 1 to %d printable characters", maxName)
	}
	var err error
	for range createTries {
		key := newKey()
		hash := hashOf(key)
		var k control.APIKey
		k, err = s.store.InsertKey(ctx, control.APIKey{ID: newKeyID(), Name: name, Prefix: key[:prefixLength], Hash: hash[:]})
		if err == nil {
			return k, key, nil
		}
		if !fault.Is(err, fault.Exists) {
			break
		}
	}
	return control.APIKey{}, "", err
}

// List returns all keys, revoked ones too, newest first.
func (s *Service) List(ctx context.Context) ([]control.APIKey, error) { return s.store.ListKeys(ctx) }

// Any reports whether a key exists that would be accepted.
func (s *Service) Any(ctx context.Context) (bool, error) { return s.store.AnyUsableKey(ctx) }

// Revoke makes a key unusable permanently: the next request with it is refused,
// here and in every other process. Revoking it again succeeds.
func (s *Service) Revoke(ctx context.Context, id string) error { return s.store.RevokeKey(ctx, id) }

// Authenticate returns the principal of the key presented. The error is Unauthenticated
// for anything that is not a usable key, and the store's if it cannot be asked.
func (s *Service) Authenticate(ctx context.Context, presented string) (Principal, error) {
	presented = canonical(presented)
	if !wellFormed(presented) {
		return Principal{}, refused()
	}
	hash := hashOf(presented)
	k, err := s.store.UsableKey(ctx, presented[:prefixLength])
	switch {
	case fault.Is(err, fault.NotFound):
		return Principal{}, refused()
	case err != nil:
		return Principal{}, err
	case subtle.ConstantTimeCompare(k.Hash, hash[:]) != 1:
		return Principal{}, refused()
	}
	s.touch(ctx, k.ID)
	return Principal{KeyID: k.ID}, nil
}

// touch records that a key was used, at most once per touchEvery. A store that
// cannot write now does not refuse a good key; the next use tries again.
func (s *Service) touch(ctx context.Context, id string) {
	now := time.Now()
	s.mu.Lock()
	recent := now.Sub(s.touched[id]) < touchEvery
	if !recent {
		if len(s.touched) >= maxTouched {
			clear(s.touched)
		}
		s.touched[id] = now
	}
	s.mu.Unlock()
	if recent || s.store.TouchKey(ctx, id) == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.touched, id)
}

func refused() error {
	return fault.New(fault.Unauthenticated, "invalid_api_key", "the API key is missing, wrong or revoked")
}
