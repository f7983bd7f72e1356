package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func clocksOf(sb control.Sandbox) types.Clocks {
	c := types.Clocks{
		CommandTimeoutSec: DefaultExecTimeoutSec,
		IdleTimeoutSec:    int(sb.Spec.Timeout / time.Second),
		LifetimeSec:       int(sb.Spec.Lifetime / time.Second),
		LifetimeExpiresAt: utc(sb.LifetimeEndsAt),
		OnTimeout:         string(sb.Spec.OnTimeout),
		AutoResume:        sb.Spec.AutoResume,
	}
	if sb.State == sandbox.Running && sb.Spec.Timeout > 0 && sb.LastActiveAt != nil {
		expires := sb.LastActiveAt.Add(sb.Spec.Timeout)
		c.IdleExpiresAt = utc(&expires)
	}
	return c
}

func (s *server) getTimeout(w http.ResponseWriter, r *http.Request) {
	s.answerClocks(w, r, s.Sandboxes.Get)
}

func (s *server) setTimeout(w http.ResponseWriter, r *http.Request) {
	var f clockFields
	err := readJSON(w, r, fields{
		"timeout_sec":  &f.idle,
		"lifetime_sec": &f.lifetime,
		"extend_sec":   &f.extend,
		"on_timeout":   &f.onTimeout,
		"auto_resume":  &f.autoResume,
	})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	change, err := f.request()
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.answerClocks(w, r, func(ctx context.Context, id sandbox.ID) (control.Sandbox, error) {
		return s.Sandboxes.SetTimeouts(ctx, id, change)
	})
}

// clockFields are the clocks in a request; nil is absent.
type clockFields struct {
	idle, lifetime, extend *int
	onTimeout              *string
	autoResume             *bool
}

// request returns f in the domain's terms. Seconds are checked here, before a
// Duration could overflow.
func (f clockFields) request() (control.ClockRequest, error) {
	c := control.ClockRequest{OnTimeout: (*sandbox.TimeoutAction)(f.onTimeout), AutoResume: f.autoResume}
	for _, clock := range []struct {
		name, reason, zero string
		given              *int
		low                int
		dst                **time.Duration
	}{
		{"timeout_sec", "invalid_timeout", " (never)", f.idle, 0, &c.Idle},
		{"lifetime_sec", "invalid_lifetime", " (never)", f.lifetime, 0, &c.Lifetime},
		{"extend_sec", "invalid_lifetime", "", f.extend, 1, &c.Extend},
	} {
		if clock.given == nil {
			continue
		}
		if *clock.given < clock.low || *clock.given > sandbox.MaxTimeoutSec {
			return c, fault.New(fault.Invalid, clock.reason, "%s must be from %d%s to %d",
				clock.name, clock.low, clock.zero, sandbox.MaxTimeoutSec)
		}
		d := time.Duration(*clock.given) * time.Second
		*clock.dst = &d
	}
	if a := c.OnTimeout; a != nil && *a != sandbox.TimeoutDestroy && *a != sandbox.TimeoutPause {
		return c, fault.New(fault.Invalid, "invalid_on_timeout",
			"on_timeout must be %q or %q", sandbox.TimeoutDestroy, sandbox.TimeoutPause)
	}
	return c, nil
}
