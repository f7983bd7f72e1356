package e2b

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// live returns the sandbox of r's path. It is NotFound once its end has begun.
func (s *server) live(r *http.Request) (control.Sandbox, error) {
	id, err := sandboxID(r)
	if err != nil {
		return control.Sandbox{}, err
	}
	return s.find(r.Context(), id)
}

func (s *server) find(ctx context.Context, id sandbox.ID) (control.Sandbox, error) {
	row, err := s.Sandboxes.Get(ctx, id)
	switch {
	case fault.Is(err, fault.NotFound):
		return control.Sandbox{}, noSandbox(string(id))
	case err == nil && over(row):
		return control.Sandbox{}, ended(row)
	}
	return row, err
}

// ended is the answer to a request for a sandbox whose end has begun. It has the words
// of noSandbox, and the reason of the end.
func ended(row control.Sandbox) error {
	message := noSandbox(string(row.ID)).Error()
	if row.StopReason != "" {
		message += fmt.Sprintf(": it has ended, reason %s", row.StopReason)
	}
	if row.Message != "" {
		message += " (" + row.Message + ")"
	}
	return refuse(http.StatusNotFound, "", "%s", message)
}

func over(row control.Sandbox) bool { return row.State.Ended() || row.State == sandbox.Stopping }

func (s *server) getSandbox(w http.ResponseWriter, r *http.Request) error {
	row, err := s.live(r)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, s.detailOf(row))
	return nil
}

func (s *server) killSandbox(w http.ResponseWriter, r *http.Request) error {
	row, err := s.live(r)
	if err != nil {
		return err
	}
	if err := s.Sandboxes.Destroy(r.Context(), row.ID); err != nil {
		return err
	}
	return done(w)
}

// pauseRequest is the schema SandboxPauseRequest.
type pauseRequest struct {
	Memory  *bool `json:"memory"`
	Healthy bool  `json:"requireHealthyGuest"`
}

// pauseSandbox pauses a sandbox, also one whose guest does not answer, unless the client
// requires that it does. A pause without memory always requires it.
func (s *server) pauseSandbox(w http.ResponseWriter, r *http.Request) error {
	row, err := s.live(r)
	if err != nil {
		return err
	}
	var in pauseRequest
	if err := readJSON(w, r, &in); err != nil {
		return err
	}
	if isOn(in.Memory, true) {
		_, err = s.Sandboxes.Pause(r.Context(), row.ID)
		if fault.Is(err, fault.Unavailable) && !in.Healthy {
			_, err = s.Sandboxes.ForcePause(r.Context(), row.ID)
		}
	} else {
		_, err = s.Sandboxes.PauseDisk(r.Context(), row.ID)
	}
	if err != nil {
		return err
	}
	return done(w)
}

// setTimeout moves the end of a running sandbox. A time of 0 or less ends it now.
func (s *server) setTimeout(w http.ResponseWriter, r *http.Request) error {
	row, err := s.live(r)
	if err != nil {
		return err
	}
	var in struct {
		Timeout *int `json:"timeout"`
	}
	if err := readJSON(w, r, &in); err != nil {
		return err
	}
	if in.Timeout == nil {
		return invalid("timeout is required")
	}
	lifetime, err := seconds(*in.Timeout)
	if err != nil {
		return err
	}
	if stateOf(row) != stateRunning {
		return refuse(http.StatusConflict, "", "sandbox %s is paused; resume it first", row.ID)
	}
	if lifetime <= 0 {
		err = s.expire(r.Context(), row)
	} else {
		_, err = s.Sandboxes.SetTimeouts(r.Context(), row.ID, control.ClockRequest{Lifetime: &lifetime})
	}
	if err != nil {
		return err
	}
	return done(w)
}

// expire carries out at once the action that is due at the end of row's time.
func (s *server) expire(ctx context.Context, row control.Sandbox) error {
	var err error
	switch {
	case row.Spec.OnTimeout != sandbox.TimeoutPause:
		err = s.Sandboxes.Destroy(ctx, row.ID)
	case row.Spec.PauseDiskOnly:
		_, err = s.Sandboxes.PauseDisk(ctx, row.ID)
	default:
		_, err = s.Sandboxes.Pause(ctx, row.ID)
	}
	return err
}

// refreshSandbox is the call by which very old clients keep a sandbox.
func (s *server) refreshSandbox(w http.ResponseWriter, r *http.Request) error {
	row, err := s.live(r)
	if err != nil {
		return err
	}
	in := struct {
		Duration int `json:"duration"`
	}{Duration: defaultTimeoutV1}
	if err := readJSON(w, r, &in); err != nil {
		return err
	}
	if in.Duration < 0 || in.Duration > 3600 {
		return invalid("duration must be from 0 to 3600")
	}
	if _, err := s.prolong(r.Context(), row, time.Duration(in.Duration)*time.Second); err != nil {
		return err
	}
	return done(w)
}

// prolong moves the end of row's time to lifetime from now, unless it is later already.
func (s *server) prolong(ctx context.Context, row control.Sandbox, lifetime time.Duration) (control.Sandbox, error) {
	if row.LifetimeEndsAt == nil || lifetime <= 0 || !row.LifetimeEndsAt.Before(time.Now().Add(lifetime)) {
		return row, nil
	}
	return s.Sandboxes.SetTimeouts(ctx, row.ID, control.ClockRequest{Lifetime: &lifetime})
}
