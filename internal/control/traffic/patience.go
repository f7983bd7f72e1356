package traffic

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// dialPauses are the pauses between attempts to connect to a port on which nothing listens:
// those of E2B's proxy. Users start a program and ask for its address at once.
var dialPauses = []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond, 400 * time.Millisecond}

// dialPatiently connects to t, and waits for up to a second for a program to listen. It
// does not wait at an address below the API, whose callers know the program that they started, nor for
// the guest's public server, which always listens.
func (h *Handler) dialPatiently(ctx context.Context, t target) (control.PortConn, error) {
	var options []control.DialOption
	if t.caller == stranger {
		options = append(options, control.Passive)
	}
	conn, err := h.Sandboxes.DialPort(ctx, t.id, t.port, options...)
	if t.form == byPath || t.port == sandbox.EnvdPort {
		return conn, err
	}
	for _, pause := range dialPauses {
		if fault.ReasonOf(err) != control.ReasonPortRefused {
			break
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
		conn, err = h.Sandboxes.DialPort(ctx, t.id, t.port, options...)
	}
	return conn, err
}
