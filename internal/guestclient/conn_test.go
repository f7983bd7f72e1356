package guestclient

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestSlowGuestIsReached checks that a guest which needs longer for every
// connection than the first attempts allow is reached within a boot's time.
func TestSlowGuestIsReached(t *testing.T) {
	for name, wait := range map[string]func(*Client, context.Context) error{
		"boot": (*Client).WaitReady, "restore": (*Client).Ping,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testSlowGuest(t, wait) })
		})
	}
}

func testSlowGuest(t *testing.T, wait func(*Client, context.Context) error) {
	ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
	defer cancel()
	const slow = 2 * time.Second
	reached := false
	c := New(func(ctx context.Context, _ uint16) (net.Conn, error) {
		select {
		case <-time.After(slow):
			reached = true
			cancel() // the connection is all that this test wants
			return nil, errors.New("reached")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	defer c.Close()
	if err := wait(c, ctx); !reached {
		t.Fatalf("a guest that needs %v to accept a connection: got %v, want a connection", slow, err)
	}
}

func TestAttemptLimitsGrow(t *testing.T) {
	for _, c := range []struct{ first, passed, dial, answer time.Duration }{
		{bootDialTimeout, 0, bootDialTimeout, answerTimeout},
		{bootDialTimeout, 300 * time.Millisecond, bootDialTimeout, answerTimeout}, // an ordinary boot
		{bootDialTimeout, 20 * time.Second, 2 * time.Second, 5 * time.Second},
		{restoredDialTimeout, 5 * time.Second, restoredDialTimeout, answerTimeout},
	} {
		if dial, answer := attemptLimits(c.first, c.passed); dial != c.dial || answer != c.answer {
			t.Errorf("attemptLimits(%v, %v) = %v, %v; want %v, %v", c.first, c.passed, dial, answer, c.dial, c.answer)
		}
	}
}
