package host_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// An action is one side of a pair of concurrent operations on one sandbox.
type action struct {
	name  string
	table string // of its steps; empty if it has none
	do    func(ctx context.Context, c *core, ref sandbox.Ref) error
}

var (
	actPause = action{"pause", "pause", func(ctx context.Context, c *core, ref sandbox.Ref) error {
		_, err := c.Pause(ctx, ref)
		return err
	}}
	actForcePause = action{"forced pause", "pause", func(ctx context.Context, c *core, ref sandbox.Ref) error {
		_, err := c.ForcePause(ctx, ref)
		return err
	}}
	actResume = action{"resume", "resume", func(ctx context.Context, c *core, ref sandbox.Ref) error {
		ref.Generation++
		_, err := c.Resume(ctx, ref)
		return err
	}}
	actSnapshot = action{"snapshot", "snapshot", func(ctx context.Context, c *core, ref sandbox.Ref) error {
		_, err := c.Snapshot(ctx, ref, coreSnapshot, false)
		return err
	}}
	actFork = action{"fork", "snapshot", func(ctx context.Context, c *core, ref sandbox.Ref) error {
		if _, err := c.Snapshot(ctx, ref, coreSnapshot, true); err != nil {
			return err
		}
		_, err := c.CreateFrom(ctx, newRef(), coreSpec, coreSnapshot)
		return err
	}}
	actDestroy = action{"destroy", "destroy", func(ctx context.Context, c *core, ref sandbox.Ref) error {
		return c.Destroy(ctx, ref, "")
	}}
	actExec = action{"exec", "", func(_ context.Context, c *core, ref sandbox.Ref) error {
		_, err := c.sh(ref, "echo begun; echo done")
		return err
	}}
	actWrite = action{"write", "", func(ctx context.Context, c *core, ref sandbox.Ref) error {
		_, err := c.WriteFile(ctx, ref, guestclient.WriteFile{Path: note}, strings.NewReader(note))
		return err
	}}
)

// note is the name and the content of the file that actWrite writes.
const note = "note"

// TestCorePairs begins a second operation on a sandbox while a first one is at
// each of its steps. Both get an answer, and every acknowledgement is true. Under the race
// detector it runs a sample.
func TestCorePairs(t *testing.T) {
	all := kinds(t)
	var cases sample
	for _, start := range []struct {
		state  sandbox.State
		first  []action
		second []action
	}{
		{sandbox.Running, []action{actPause, actForcePause, actSnapshot, actFork, actDestroy}, []action{actExec, actWrite, actPause, actForcePause, actSnapshot, actDestroy}},
		{sandbox.Paused, []action{actResume, actSnapshot, actDestroy}, []action{actExec, actResume, actSnapshot, actDestroy}},
	} {
		for _, first := range start.first {
			for _, second := range start.second {
				for _, k := range all {
					steps := slices.DeleteFunc(slices.Clone(journal.Steps()[first.table]), func(string) bool { return !cases.next() })
					t.Run(fmt.Sprintf("%s %s vs %s/%s", start.state, first.name, second.name, k.name), func(t *testing.T) {
						t.Parallel()
						c := newCoreOf(t, k)
						for _, step := range steps {
							c.pair(start.state, first, second, step)
						}
						c.empty()
					})
				}
			}
		}
	}
}

// pair runs second while first is at step. A step that first does not go
// through is passed over.
func (c *core) pair(state sandbox.State, first, second action, step string) {
	c.t.Helper()
	ref := c.create()
	if state == sandbox.Paused {
		pauseSubject(c, ref)
	}
	reached, unblock := c.hook.hold(step)
	results := make(chan error, 1)
	go func() { results <- first.do(c.t.Context(), c, ref) }()
	var firstErr error
	select {
	case <-reached:
	case firstErr = <-results:
		results <- firstErr
	}
	begun, other := make(chan struct{}), make(chan error, 1)
	go func() {
		close(begun)
		other <- second.do(c.t.Context(), c, ref)
	}()
	<-begun
	unblock()
	firstErr = <-results
	secondErr := <-other
	where := fmt.Sprintf("%s at %s with %s", first.name, step, second.name)
	c.acknowledged(where, ref, first, firstErr)
	c.acknowledged(where, ref, second, secondErr)
	c.consistent(where, ref, map[string]error{first.name: firstErr, second.name: secondErr})
}

// acknowledged checks the error of an operation: it is one that a caller can
// act upon.
func (c *core) acknowledged(where string, ref sandbox.Ref, a action, err error) {
	c.t.Helper()
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	if kind := fault.As(err).Kind; kind == fault.Internal {
		c.t.Errorf("%s: %s of %s failed with an internal error: %v", where, a.name, ref.ID, err)
	}
}

// consistent checks that the acknowledged state holds, and removes the sandbox.
func (c *core) consistent(where string, ref sandbox.Ref, errs map[string]error) {
	c.t.Helper()
	said := func(name string) bool { err, asked := errs[name]; return asked && err == nil }
	s := c.of(ref)
	_, destroying := errs["destroy"]
	switch {
	case said("destroy") && s.State != "":
		c.t.Errorf("%s: the sandbox is %q after an acknowledged destroy", where, s.State)
	case !destroying && s.State != sandbox.Running && s.State != sandbox.Paused:
		c.t.Errorf("%s: the sandbox is %q (%v)", where, s.State, errs)
	}
	c.agree()
	if s.State == sandbox.Paused {
		s.Ref.Generation++
		_, err := c.Resume(c.t.Context(), s.Ref)
		check(c.t, err)
	}
	if s = c.of(ref); s.State == sandbox.Running {
		c.awaitGuest(s.Ref)
		if got := c.read(s.Ref, mark); got != string(ref.ID) {
			c.t.Errorf("%s: the sandbox's file holds %q", where, got)
		}
	}
	if said("write") && s.State == sandbox.Running {
		if got := c.read(s.Ref, note); got != note {
			c.t.Errorf("%s: the file that was written holds %q", where, got)
		}
	}
	if said("snapshot") {
		child := newRef()
		_, err := c.CreateFrom(c.t.Context(), child, coreSpec, coreSnapshot)
		check(c.t, err)
		if got := c.read(child, mark); got != string(ref.ID) {
			c.t.Errorf("%s: a copy of the snapshot holds %q", where, got)
		}
	}
	for _, left := range c.List() {
		check(c.t, c.Destroy(c.t.Context(), left.Ref, ""))
	}
	check(c.t, c.DeleteSnapshot(c.t.Context(), coreSnapshot))
}
