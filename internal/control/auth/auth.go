package auth

import (
	"context"
	"crypto/sha256"
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

// cacheFor is how long a key that was found good is taken as good. A key
// revoked through another process works for so long after.
const cacheFor = 15 * time.Second

// maxCached bounds the cache. Only good keys are in it.
const maxCached = 4096

// Service makes, checks and revokes keys. It is safe for concurrent use.
//
// Invariants: good holds hashes of keys, never keys, and only of keys that the
// store confirmed less than cacheFor before their expiry was set; a key revoked
// through this Service is not in it.
type Service struct {
	store Store

	mu   sync.Mutex // protects the following
	good map[[sha256.Size]byte]cached
	// revocations counts Revoke calls, so that a check which began before one
	// does not put its result into good after it.
	revocations uint64
}

type cached struct {
	principal Principal
	until     time.Time
}

// New returns a Service on store.
func New(store Store) (*Service, error) {
	if store == nil {
		return nil, fault.New(fault.Internal, "missing_dependency", "auth.New needs a store")
	}
	return &Service{store: store, good: make(map[[sha256.Size]byte]cached)}, nil
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

// Revoke makes a key unusable for ever: here at once, in other processes
// within cacheFor. Revoking it again succeeds.
func (s *Service) Revoke(ctx context.Context, id string) error {
	if err := s.store.RevokeKey(ctx, id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revocations++
	clear(s.good)
	return nil
}

// Authenticate returns whose key presented is. The error is Unauthenticated
// for anything that is not a usable key, and the store's if it cannot be asked.
func (s *Service) Authenticate(ctx context.Context, presented string) (Principal, error) {
	if !wellFormed(presented) {
		return Principal{}, refused()
	}
	hash := hashOf(presented)
	p, epoch, ok := s.cached(hash)
	if ok {
		return p, nil
	}
	k, err := s.store.UsableKey(ctx, presented[:prefixLength])
	switch {
	case fault.Is(err, fault.NotFound):
		return Principal{}, refused()
	case err != nil:
		return Principal{}, err
	case subtle.ConstantTimeCompare(k.Hash, hash[:]) != 1:
		return Principal{}, refused()
	}
	// Here, and so at most once per cacheFor and key.
	if err := s.store.TouchKey(ctx, k.ID); err != nil {
		return Principal{}, err
	}
	p = Principal{KeyID: k.ID, KeyName: k.Name}
	s.remember(hash, p, epoch)
	return p, nil
}

func (s *Service) cached(hash [sha256.Size]byte) (p Principal, epoch uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.good[hash]
	return c.principal, s.revocations, ok && time.Now().Before(c.until)
}

// remember caches p unless a key was revoked since epoch.
func (s *Service) remember(hash [sha256.Size]byte, p Principal, epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if epoch != s.revocations {
		return
	}
	if len(s.good) >= maxCached {
		clear(s.good)
	}
	s.good[hash] = cached{p, time.Now().Add(cacheFor)}
}

func refused() error {
	return fault.New(fault.Unauthenticated, "invalid_api_key", "the API key is missing, wrong or revoked")
}
