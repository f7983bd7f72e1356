package rpc

import (
	"context"
	"crypto/subtle"
	"fmt"
	"sync"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// settings are what Configure gave.
type settings struct {
	SandboxID   string
	Generation  uint64
	Token       string // empty: an open guest
	Envs        map[string]string
	DefaultUser string
	// DefaultDir is empty for the default user's home.
	DefaultDir string
}

// admits reports whether token is the right one, in constant time.
func (s *settings) admits(token string) bool {
	return s.Token == "" || subtle.ConstantTimeCompare([]byte(s.Token), []byte(token)) == 1
}

// epoch is the time between an unsealing and the next sealing.
//
// Invariants: settings never change; ctx ends when the epoch does; calls
// counts the requests that were admitted in it.
type epoch struct {
	settings
	ctx   context.Context
	end   context.CancelCauseFunc
	calls sync.WaitGroup
}

// errSealed is the cause with which the requests of an epoch are cut off.
var errSealed = fault.New(fault.HostFailed, "guest_sealed", "the sandbox is being paused or is not configured yet")

// state is the sealed state of the agent.
//
// Invariants: current is nil exactly while sealed; a request belongs to the
// epoch that was current when it was admitted, and is cut off at its end; the
// vault holds the settings of the current epoch, or nothing.
type state struct {
	vault Vault

	mu      sync.Mutex // protects the following
	current *epoch
}

// recover unseals with the settings that an earlier agent of this boot left.
// Anything but a whole record leaves the guest sealed.
func (s *state) recover() error {
	b, err := s.vault.Load()
	if err != nil {
		return fmt.Errorf("read the settings kept over a restart: %w", err)
	}
	if len(b) == 0 {
		return nil
	}
	kept, err := decodeSettings(b)
	if err != nil {
		return fmt.Errorf("read the settings kept over a restart: %w", err)
	}
	s.open(kept)
	return nil
}

// open starts an epoch with next and ends the earlier one.
func (s *state) open(next settings) {
	e := &epoch{settings: next}
	e.ctx, e.end = context.WithCancelCause(context.Background())
	s.mu.Lock()
	before := s.current
	s.current = e
	s.mu.Unlock()
	if before != nil {
		before.end(errSealed)
	}
}

// seal ends the current epoch and waits for its requests until ctx ends. It
// returns the settings, so that a failed Quiesce can open again; ok is false
// if the guest was sealed already.
func (s *state) seal(ctx context.Context) (kept settings, ok bool, err error) {
	s.mu.Lock()
	before := s.current
	s.current = nil
	s.mu.Unlock()
	if before == nil {
		return settings{}, false, nil
	}
	before.end(errSealed)
	done := make(chan struct{})
	go func() { before.calls.Wait(); close(done) }()
	select {
	case <-done:
		return before.settings, true, nil
	case <-ctx.Done():
		return before.settings, true, fault.Wrap(ctx.Err(), fault.Timeout, "quiesce_timeout", "requests did not end in time")
	}
}

// shut seals without waiting for the requests of the epoch that it ends.
func (s *state) shut() {
	s.mu.Lock()
	before := s.current
	s.current = nil
	s.mu.Unlock()
	if before != nil {
		before.end(errSealed)
	}
}

// enter admits a request into the current epoch; nil means sealed. The caller
// must call leave on the epoch.
func (s *state) enter() *epoch {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		s.current.calls.Add(1)
	}
	return s.current
}

func (e *epoch) leave() { e.calls.Done() }

// save puts next into the vault.
func (s *state) save(next settings) error { return s.vault.Save(next.encode()) }

type epochKey struct{}

// epochOf returns the epoch that the gate admitted ctx's request into.
func epochOf(ctx context.Context) *epoch {
	e, _ := ctx.Value(epochKey{}).(*epoch)
	if e == nil {
		panic("rpc: handler reached without the gate")
	}
	return e
}
