package e2b

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

const (
	// patience bounds the time for which a connect waits for a pause or a resume of
	// another caller.
	patience = time.Minute
	// lookAgain is the time between two looks at the row meanwhile.
	lookAgain = 50 * time.Millisecond
)

// connectRequest is the schema ConnectSandbox of both generations.
type connectRequest struct {
	Timeout   *int  `json:"timeout"`
	Memory    *bool `json:"memory"`
	AutoPause *bool `json:"autoPause"`
}

// connectSandbox gives a client access to a sandbox that runs, and resumes a paused one.
// Without a timeout the sandbox keeps its own.
func (s *server) connectSandbox(w http.ResponseWriter, r *http.Request) error {
	row, lifetime, in, err := s.readConnect(w, r)
	if err != nil {
		return err
	}
	row, resumed, err := s.running(r.Context(), row, lifetime, isOn(in.Memory, true))
	if err != nil {
		return err
	}
	status := http.StatusOK
	if resumed {
		status = http.StatusCreated
	}
	writeJSON(w, status, s.sandboxOf(row))
	return nil
}

// resumeSandbox is the call of old clients that refuses a sandbox that runs.
func (s *server) resumeSandbox(w http.ResponseWriter, r *http.Request) error {
	row, lifetime, in, err := s.readConnect(w, r)
	if err != nil {
		return err
	}
	if row.State == sandbox.Running {
		return refuse(http.StatusConflict, "", "sandbox %s is running already", row.ID)
	}
	if in.AutoPause != nil {
		action := sandbox.TimeoutDestroy
		if *in.AutoPause {
			action = sandbox.TimeoutPause
		}
		if _, err := s.Sandboxes.SetTimeouts(r.Context(), row.ID, control.ClockRequest{OnTimeout: &action}); err != nil {
			return err
		}
	}
	row, _, err = s.running(r.Context(), row, lifetime, isOn(in.Memory, true))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, s.sandboxOf(row))
	return nil
}

// readConnect returns the sandbox and the body of a connect. lifetime is 0 if the body
// has none.
func (s *server) readConnect(w http.ResponseWriter, r *http.Request) (row control.Sandbox, lifetime time.Duration, in connectRequest, err error) {
	if row, err = s.live(r); err != nil {
		return row, 0, in, err
	}
	if err = readJSON(w, r, &in); err != nil || in.Timeout == nil {
		return row, 0, in, err
	}
	if *in.Timeout < 0 {
		return row, 0, in, invalid("timeout must not be negative")
	}
	lifetime, err = seconds(*in.Timeout)
	return row, lifetime, in, err
}

// running returns row's sandbox in the state running. It waits for a pause or a resume
// of another caller.
func (s *server) running(ctx context.Context, row control.Sandbox, lifetime time.Duration, memory bool) (_ control.Sandbox, resumed bool, err error) {
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		switch {
		case over(row):
			return row, false, ended(row)
		case row.State == sandbox.Running:
			row, err = s.prolong(ctx, row, lifetime)
			return row, resumed, err
		case row.State == sandbox.Paused:
			now, err := s.resume(ctx, row, lifetime, memory)
			if !fault.Is(err, fault.WrongState) {
				return now, true, err
			}
		}
		// Another caller is at it.
		select {
		case <-time.After(lookAgain):
		case <-wait.Done():
			return row, false, refuse(http.StatusConflict, wordInFlight, "sandbox %s is being paused or resumed; try again in a moment", row.ID)
		}
		if row, err = s.find(ctx, row.ID); err != nil {
			return row, false, err
		}
	}
}

// initialLifetime returns the lifetime with which row's sandbox was created. It is the
// present one for a sandbox of an older version.
func initialLifetime(row control.Sandbox) time.Duration {
	return cmp.Or(row.Spec.InitialLifetime, row.Spec.Lifetime)
}

// resume resumes a paused sandbox for lifetime, or for the time with which it was
// created if that is 0. A sandbox without an end gets none. Without memory it boots from
// its disk.
func (s *server) resume(ctx context.Context, row control.Sandbox, lifetime time.Duration, memory bool) (control.Sandbox, error) {
	if memory && row.Health.Forced {
		return row, refuse(http.StatusConflict, wordUnresponsive,
			"the guest of sandbox %s did not answer when it was paused; resume it without its memory: it boots from its files", row.ID)
	}
	if lifetime == 0 {
		lifetime = initialLifetime(row)
	}
	if row.Spec.Lifetime > 0 && lifetime != row.Spec.Lifetime {
		if _, err := s.Sandboxes.SetTimeouts(ctx, row.ID, control.ClockRequest{Lifetime: &lifetime}); err != nil {
			return row, err
		}
	}
	if !memory {
		return s.Sandboxes.Reboot(ctx, row.ID)
	}
	return s.Sandboxes.Resume(ctx, row.ID)
}
