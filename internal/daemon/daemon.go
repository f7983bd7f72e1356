// Package daemon runs the long-lived parts of one process: it starts them in
// order, waits for the first of them to fail or for the order to stop, and
// stops them in reverse.
//
// The commands of cmd/wrenn use it to wire a server. It does not know the work of
// a part, never restarts one, and never exits the process by itself.
//
//	start:  A ─ready─► B ─ready─► C ─ready─► (all run)
//	stop:   C ─done──► B ─done──► A ─done──► Run returns
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// DefaultStopTimeout bounds the stop of a component that sets no StopTimeout.
const DefaultStopTimeout = 15 * time.Second

// ErrEnded is the failure of a component that returned nil before it was asked
// to stop.
var ErrEnded = errors.New("ended without being asked to")

// Component is one long-lived part of a process.
type Component struct {
	// Name appears in logs and errors.
	Name string
	// Run works until ctx ends, then stops its goroutines, waits for them and
	// returns nil or ctx's error. It calls ready once the components after it
	// may rely on it; calls after the first do nothing. Returning before ctx
	// has ended is a failure, with any return value.
	Run func(ctx context.Context, ready func()) error
	// StopTimeout bounds the time from the end of ctx to Run's return. Zero
	// means DefaultStopTimeout.
	StopTimeout time.Duration
}

// Run starts the components in order, each when the one before is ready, and
// blocks until ctx ends or one of them fails. Then it stops all that were
// started, last first, each one after the one above it has returned.
//
// Cancelling ctx is the order to stop: components do not see it directly, so
// that the order of stopping holds. Values of ctx reach them.
//
// The first failure is returned, wrapped with the component's name. A
// component that outlives its StopTimeout is left behind and counts as a
// failure: the caller is expected to end the process.
func Run(ctx context.Context, log *slog.Logger, components ...Component) error {
	g := &group{log: log, ended: make(chan *running, len(components))}
	err := g.start(ctx, components)
	if err == nil {
		err = g.wait(ctx)
	}
	if err != nil {
		log.Error("stopping because a component failed", "error", err)
	} else {
		log.Debug("stopping as asked to")
	}
	if stopErr := g.stop(); err == nil {
		err = stopErr
	}
	return err
}

// group holds the components started so far.
//
// Invariants: started is in order of start and only its owner, Run, touches
// it; ended has room for every component, so that none blocks on its way out.
type group struct {
	log     *slog.Logger
	started []*running
	ended   chan *running // never closed: each component sends itself once
	failed  *running      // whose end Run reports; nil when asked to stop
}

// running is a started component.
type running struct {
	Component
	cancel context.CancelFunc
	ready  chan struct{} // closed by the component's first call of ready
	done   chan struct{} // closed when Run has returned; err is set before
	err    error
}

// start returns nil when all components are ready or ctx has ended.
func (g *group) start(ctx context.Context, components []Component) error {
	for _, c := range components {
		if ctx.Err() != nil {
			return nil
		}
		began := time.Now()
		r := g.launch(ctx, c)
		select {
		case <-r.ready:
			g.log.Debug("component is ready", "component", c.Name, "took", time.Since(began))
		case dead := <-g.ended:
			return g.fail(dead)
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

func (g *group) launch(ctx context.Context, c Component) *running {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &running{Component: c, cancel: cancel, ready: make(chan struct{}), done: make(chan struct{})}
	g.started = append(g.started, r)
	go func() {
		// A component that panics has failed, and the others end in order.
		r.err = fault.Caught(func() error { return c.Run(own, sync.OnceFunc(func() { close(r.ready) })) })
		close(r.done)
		g.ended <- r
	}()
	return r
}

func (g *group) wait(ctx context.Context) error {
	select {
	case dead := <-g.ended:
		return g.fail(dead)
	case <-ctx.Done():
		return nil
	}
}

// stop ends the started components in reverse and returns the first failure
// to do so.
func (g *group) stop() error {
	var first error
	for i := len(g.started) - 1; i >= 0; i-- {
		r := g.started[i]
		if err := r.stop(); err != nil && r != g.failed {
			g.log.Error("component did not stop cleanly", "component", r.Name, "error", err)
			if first == nil {
				first = err
			}
		}
	}
	return first
}

func (r *running) stop() error {
	r.cancel()
	limit := r.StopTimeout
	if limit == 0 {
		limit = DefaultStopTimeout
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-r.done:
	case <-timer.C:
		return fmt.Errorf("%s: did not stop within %s", r.Name, limit)
	}
	if r.err == nil || errors.Is(r.err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("%s: %w", r.Name, r.err)
}

// fail returns the failure of a component that ended before it was asked to
// stop.
func (g *group) fail(r *running) error {
	g.failed = r
	if r.err == nil {
		return fmt.Errorf("%s: %w", r.Name, ErrEnded)
	}
	return fmt.Errorf("%s: %w", r.Name, r.err)
}
