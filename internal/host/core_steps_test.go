package host_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestCoreLifecycle takes one sandbox through every operation.
func TestCoreLifecycle(t *testing.T) {
	for _, k := range shapes(t) {
		t.Run(k.name, func(t *testing.T) {
			c := newCoreOf(t, k)
			ref := c.create()
			c.sound()
			takeSnapshot(c, c.of(ref).Ref)
			child := newRef()
			_, err := c.CreateFrom(t.Context(), child, coreSpec, coreSnapshot)
			check(t, err)
			if got := c.read(child, mark); got != string(ref.ID) {
				t.Errorf("the fork's file holds %q, want the parent's", got)
			}
			c.sound()
			c.empty()
		})
	}
}

// eachStep runs do for every step of every operation with VMs of either shape, each
// on a host of its own. Under the race detector it runs a sample.
func eachStep(t *testing.T, do func(t *testing.T, o operation, step string, k kind)) {
	t.Helper()
	all := kinds(t)
	var cases sample
	for _, o := range coreOperations() {
		for _, step := range o.stepNames() {
			for _, k := range all {
				if !cases.next() {
					continue
				}
				t.Run(o.name+"/"+step+"/"+k.name, func(t *testing.T) {
					t.Parallel()
					do(t, o, step, k)
				})
			}
		}
	}
}

// TestCoreStepsFollowTheirTable does each operation and compares the steps that
// it takes with the table in the journal, which recovery and documentation read.
func TestCoreStepsFollowTheirTable(t *testing.T) {
	for _, k := range kinds(t) {
		for _, o := range coreOperations() {
			t.Run(o.name+"/"+k.name, func(t *testing.T) {
				t.Parallel()
				o.followsItsTable(t, k)
			})
		}
	}
}

func (o operation) followsItsTable(t *testing.T, k kind) {
	c, bystander, subject, fresh := o.begin(t, k)
	before := c.stateOf(bystander)
	c.hook.begun()
	check(t, o.act(t.Context(), c, subject, fresh))
	prefix, _, _ := strings.Cut(o.stepNames()[0], ".")
	got := slices.DeleteFunc(c.hook.begun(), func(step string) bool { return !strings.HasPrefix(step, prefix+".") })
	if want := o.stepNames(); !slices.Equal(got, want) {
		t.Errorf("%s took the steps %q, want those of its table, %q", o.name, got, want)
	}
	if o.creates {
		c.write(subject, mark, string(subject.ID))
	}
	if o.pooled {
		c.restart()
	}
	c.finish(bystander, before)
}

// TestCoreKilledAtEveryStep ends the agent before each step of each operation.
// The next agent brings the sandbox into a state that its callers can expect,
// with its data, and leaves nothing behind.
func TestCoreKilledAtEveryStep(t *testing.T) {
	eachStep(t, func(t *testing.T, o operation, step string, k kind) {
		c, bystander, subject, fresh := o.begin(t, k)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		met, result := c.hook.arm(step, true), make(chan error, 1)
		m := *c
		go func() { result <- o.act(ctx, &m, subject, fresh) }()
		select {
		case <-met:
		case err := <-result:
			t.Fatalf("%s ended without its step %s: %v", o.name, step, err)
		}
		before := c.stateOf(bystander)
		c.crash()
		cancel()
		if err := <-result; err == nil {
			t.Errorf("%s was acknowledged though the agent ended before %s", o.name, step)
		}
		if got := c.of(subject).State; !slices.Contains(o.after, got) {
			t.Errorf("after the agent ended before %s: the sandbox is %q, want one of %q", step, got, o.after)
		}
		c.finish(bystander, before)
	})
}

// TestCoreFailsAtEveryStep lets each step of each operation fail once. The
// operation says so, or has not needed that step, and the sandbox is in a state
// that fits the answer.
func TestCoreFailsAtEveryStep(t *testing.T) {
	eachStep(t, func(t *testing.T, o operation, step string, k kind) {
		c, bystander, subject, fresh := o.begin(t, k)
		before := c.stateOf(bystander)
		met := c.hook.arm(step, false)
		err := o.act(t.Context(), c, subject, fresh)
		select {
		case <-met:
		default:
			t.Fatalf("%s ended without its step %s: %v", o.name, step, err)
		}
		switch got := c.of(subject).State; {
		case err == nil && got != o.done:
			t.Errorf("%s succeeded though %s failed: the sandbox is %q, want %q", o.name, step, got, o.done)
		case err == nil && step == journal.StepPauseFree:
			c.restart() // the next agent frees the VM
		case err == nil && o.creates:
			c.write(subject, mark, string(subject.ID)) // it was tried again
		case err != nil && o.table == "destroy":
			check(t, o.act(t.Context(), c, subject, fresh)) // a destroy can be repeated
		case err != nil && !slices.Contains(o.after, got):
			t.Errorf("%s failed at %s (%v): the sandbox is %q, want one of %q", o.name, step, err, got, o.after)
		}
		if o.pooled {
			c.restart()
		}
		c.finish(bystander, before)
	})
}

// TestCoreRefill ends the agent before, and fails, each step of the making of a
// warm clone.
func TestCoreRefill(t *testing.T) {
	for _, k := range kinds(t) {
		for _, step := range journal.Steps()["pool"] {
			for _, kill := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/kill=%v/%s", step, kill, k.name), func(t *testing.T) {
					t.Parallel()
					refill(t, k, step, kill)
				})
			}
		}
	}
}

// refill ends the agent before step, or fails it, while a warm clone is made.
func refill(t *testing.T, k kind, step string, kill bool) {
	c := newCoreOf(t, k)
	bystander := c.create()
	check(t, c.Close())
	h := &hook{unblock: make(chan struct{})}
	met := h.arm(step, kill)
	c.pools = []host.PoolKind{corePool}
	c.openWith(h)
	<-met
	if kill {
		c.crash()
	} else {
		c.restart()
	}
	c.finish(bystander, sandbox.Running)
}

// stateOf returns the state of a sandbox, or "" for the zero Ref.
func (c *core) stateOf(ref sandbox.Ref) sandbox.State { return c.of(ref).State }

// finish checks the host after an operation that the bystander had no part in.
func (c *core) finish(bystander sandbox.Ref, before sandbox.State) {
	c.t.Helper()
	if bystander.ID != "" {
		if got := c.stateOf(bystander); got != before {
			c.t.Errorf("the bystander was %q and is %q", before, got)
		}
		if got := c.read(bystander, mark); got != string(bystander.ID) {
			c.t.Errorf("the bystander's file holds %q", got)
		}
	}
	c.sound()
	c.empty()
}
