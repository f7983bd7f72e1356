package agent

import (
	"context"
	"fmt"
	"sync"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Epoch is the time between an unsealing and the next sealing.
//
// Invariants: settings never change; ctx ends when the epoch does; calls
// counts the calls that were admitted in it.
type Epoch struct {
	Settings
	ctx   context.Context
	end   context.CancelCauseFunc
	calls sync.WaitGroup
}

// ErrSealed is the fault of a call to a sealed guest, and the cause with which
// the calls of an epoch are cut off at its end.
var ErrSealed = fault.New(fault.HostFailed, "guest_sealed", "the sandbox is being paused or is not configured yet")

// Leave ends a call that Admit let into the epoch. It must be called once.
func (e *Epoch) Leave() { e.calls.Done() }

// Bind returns a context that carries the epoch and ends with it. When the epoch
// ends first, the context is cancelled with ErrSealed as its cause and then
// cutOff is called, on a goroutine of its own, to interrupt reads and writes
// that wait for the peer. The caller must call release; it reports whether the
// epoch was still running.
func (e *Epoch) Bind(ctx context.Context, cutOff func()) (bound context.Context, release func() bool) {
	bound, cancel := context.WithCancelCause(context.WithValue(ctx, epochKey{}, e))
	stop := context.AfterFunc(e.ctx, func() {
		cancel(context.Cause(e.ctx))
		cutOff()
	})
	return bound, func() bool {
		defer cancel(nil)
		return stop()
	}
}

type epochKey struct{}

// EpochOf returns the epoch that a context from Bind carries.
func EpochOf(ctx context.Context) *Epoch {
	e, _ := ctx.Value(epochKey{}).(*Epoch)
	if e == nil {
		panic("agent: a call was served without being admitted")
	}
	return e
}

// state is the sealed state of the agent.
//
// Invariants: current is nil exactly while sealed; a call belongs to the epoch
// that was current when it was admitted, and is cut off at its end; the store
// holds the settings of the current epoch, or nothing.
type state struct {
	store SettingsStore

	mu      sync.Mutex // protects the following
	current *Epoch
}

// recover unseals with the settings that an earlier agent of this boot saved.
// Anything but a complete record leaves the guest sealed.
func (s *state) recover() error {
	b, err := s.store.LoadSettings()
	if err != nil {
		return fmt.Errorf("read the saved settings: %w", err)
	}
	if len(b) == 0 {
		return nil
	}
	saved, err := decodeSettings(b)
	if err != nil {
		return fmt.Errorf("read the saved settings: %w", err)
	}
	s.open(saved)
	return nil
}

// save stores next for the next agent of this boot.
func (s *state) save(next Settings) error { return s.store.SaveSettings(next.encode()) }

// replace makes next the current epoch, nil for none, and ends the previous one,
// which it returns.
func (s *state) replace(next *Epoch) (previous *Epoch) {
	s.mu.Lock()
	previous, s.current = s.current, next
	s.mu.Unlock()
	if previous != nil {
		previous.end(ErrSealed)
	}
	return previous
}

// open starts an epoch with next and ends the previous one.
func (s *state) open(next Settings) {
	e := &Epoch{Settings: next}
	e.ctx, e.end = context.WithCancelCause(context.Background())
	s.replace(e)
}

// seal ends the current epoch without waiting for its calls.
func (s *state) seal() { s.replace(nil) }

// sealAndWait ends the current epoch and waits for its calls until ctx ends. It
// returns the settings, so that a failed Quiesce can open the guest again; ok is
// false if the guest was sealed already.
func (s *state) sealAndWait(ctx context.Context) (previous Settings, ok bool, err error) {
	e := s.replace(nil)
	if e == nil {
		return Settings{}, false, nil
	}
	done := make(chan struct{})
	go func() { e.calls.Wait(); close(done) }()
	select {
	case <-done:
		return e.Settings, true, nil
	case <-ctx.Done():
		return e.Settings, true, fault.Wrap(ctx.Err(), fault.Timeout, "quiesce_timeout", "requests did not end in time")
	}
}

// enter admits a call into the current epoch; nil means sealed. The caller must
// call Leave on the epoch.
func (s *state) enter() *Epoch {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		s.current.calls.Add(1)
	}
	return s.current
}
