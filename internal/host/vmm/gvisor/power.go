package gvisor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// power pauses and resumes the tasks of one sandbox.
//
// The sentry counts pauses: it runs only after as many resumes, and one resume too
// many ends it. power therefore sends one request at a time, and none before it
// knows whether the sentry is paused. A call whose context ends leaves its request
// under way; the next call waits for the answer first. A file names the request that
// is under way, for a later agent.
type power struct {
	dir string
	// life ends with the hold of this agent on the sandbox: requests that have not
	// been sent until then are dropped.
	life context.Context
	// turn has room for one; its holder has the fields below.
	turn   chan struct{}
	known  bool
	paused bool
}

// set pauses or resumes the tasks, unless they are so already.
func (p *power) set(ctx context.Context, pause bool) error {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("wait for an earlier request to the sentry: %w", context.Cause(ctx))
	}
	done := make(chan error, 1)
	// The goroutine ends with p.life at the latest.
	go func() {
		err := fault.Caught(func() error { return p.request(p.life, pause) })
		<-p.turn
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// request changes the state.
func (p *power) request(ctx context.Context, pause bool) error {
	if !p.known {
		now, err := p.observe(ctx)
		if err != nil {
			return fmt.Errorf("ask whether the sandbox is paused: %w", err)
		}
		p.known, p.paused = true, now
	}
	if p.paused == pause {
		return nil
	}
	method := methodResume
	if pause {
		method = methodPause
	}
	// A full disk must not keep a paused sandbox from continuing. observe takes a file
	// that this leaves empty for a Resume.
	if err := os.WriteFile(requestPath(p.dir), []byte(method), 0o600); err != nil && pause {
		return err
	}
	// If the call fails, the sentry may carry it out all the same.
	p.known = false
	if err := call(ctx, p.dir, method, nil, nil); err != nil {
		return err
	}
	p.known, p.paused = true, pause
	if err := os.Remove(requestPath(p.dir)); !os.IsNotExist(err) {
		return err
	}
	return nil
}

// requestPath names the file with the method that was requested last, and that the
// sentry has not confirmed.
func requestPath(dir string) string { return filepath.Join(dir, "request") }

// lateRequest is how long a request of an earlier agent may be carried out after the
// sentry has answered a later one. The sentry reads requests in their order, and
// carries each out in a goroutine of its own.
const (
	lateRequest     = 5 * time.Second
	lateRequestPoll = 10 * time.Millisecond
)

// observe reports whether the sentry is paused, after the request of an earlier
// agent that is under way, if there is one.
func (p *power) observe(ctx context.Context) (now bool, err error) {
	method, err := os.ReadFile(requestPath(p.dir))
	if os.IsNotExist(err) {
		return paused(ctx, p.dir)
	}
	if err != nil {
		return false, err
	}
	poll := time.NewTicker(lateRequestPoll)
	defer poll.Stop()
	var end time.Time
	for {
		now, err = paused(ctx, p.dir)
		if err != nil || now == (string(method) == methodPause) {
			return now, err
		}
		// Counted from the first answer: the sentry may have been stopped before.
		if end.IsZero() {
			end = time.Now().Add(lateRequest)
		}
		if time.Now().After(end) {
			return now, nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}
