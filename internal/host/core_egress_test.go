package host_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestCoreEgressIsLimited: a sandbox with limits has them whether it is restored, taken
// from the pool or resumed, and after the agent has been restarted.
func TestCoreEgressIsLimited(t *testing.T) {
	c := newCore(t, fastTemp(t))
	spec := coreSpec
	spec.Egress = sandbox.DenyAll()
	create := func(source string) sandbox.Ref {
		t.Helper()
		ref := newRef()
		s, err := c.Create(t.Context(), ref, spec)
		check(t, err)
		c.write(ref, mark, string(ref.ID))
		if string(s.Source) != source {
			t.Errorf("a sandbox came from %q, want %q", s.Source, source)
		}
		return ref
	}
	limited := func(want int) {
		t.Helper()
		if n := c.network.Limited(); n != want {
			t.Errorf("%d sandboxes are limited, want %d", n, want)
		}
	}
	restored := create("restore")
	c.create()
	limited(1)
	c.restart(corePool)
	awaitPool(t, c.Manager, 1)
	create("pool")
	limited(2)
	pauseSubject(c, restored)
	limited(1)
	c.restart()
	check(t, actResume.do(t.Context(), c, restored))
	limited(2)
	if s := c.of(restored); !s.Spec.Egress.DeniesAll() {
		t.Errorf("after a restart the limits are %+v", s.Spec.Egress)
	}
	c.sound()
	c.empty()
}

// denying is the Egress that denies ranges.
func denying(ranges ...string) (e sandbox.Egress) {
	for _, r := range ranges {
		e.Deny = append(e.Deny, netip.MustParsePrefix(r))
	}
	return e
}

// denies checks that the sandbox and its network have exactly the limits want.
func (c *core) denies(ref sandbox.Ref, want sandbox.Egress) {
	c.t.Helper()
	if got := c.of(ref).Spec.Egress; !got.Equal(want) {
		c.t.Errorf("the host reports the limits %+v, want %+v", got, want)
	}
	if got := c.network.Denied(string(ref.ID)); !slices.Equal(got, want.Deny) {
		c.t.Errorf("the network denies %v, want %v", got, want.Deny)
	}
}

// TestCoreEgressChanges: the limits of a sandbox that runs are replaced, also for those
// that are taken from the pool, and stay over a pause and a restart of the agent. A paused
// sandbox gets them when it is resumed.
func TestCoreEgressChanges(t *testing.T) {
	for _, k := range shapes(t) {
		t.Run(k.name, func(t *testing.T) {
			c := newCoreOf(t, k)
			ref := c.create()
			set := func(e sandbox.Egress) {
				t.Helper()
				s, err := c.SetEgress(t.Context(), ref, e)
				if check(t, err); !s.Spec.Egress.Equal(e) {
					t.Errorf("SetEgress answered %+v, want %+v", s.Spec.Egress, e)
				}
			}
			for _, e := range []sandbox.Egress{denying("203.0.113.0/24"), denying("203.0.113.0/24"), {}, sandbox.DenyAll()} {
				set(e)
				c.denies(ref, e)
			}
			c.restart()
			c.denies(ref, sandbox.DenyAll())

			pauseSubject(c, ref)
			set(denying("198.51.100.0/24"))
			c.restart()
			later := sandbox.Ref{ID: ref.ID, Generation: ref.Generation + 1}
			_, err := c.Resume(t.Context(), later)
			check(t, err)
			c.denies(later, denying("198.51.100.0/24"))
			if _, err := c.SetEgress(t.Context(), ref, sandbox.Egress{}); !fault.Is(err, fault.Stale) {
				t.Errorf("SetEgress for the generation before the resume: %v, want a stale fault", err)
			}
			if _, err := c.SetEgress(t.Context(), later, sandbox.Egress{Allow: denying("1.1.1.1/32").Deny}); fault.ReasonOf(err) != "invalid_egress" {
				t.Errorf("SetEgress with exceptions from nothing: %v, want invalid_egress", err)
			}
			c.denies(later, denying("198.51.100.0/24"))
			c.sound()
			c.empty()
		})
	}
}

// TestCoreEgressIsRecordedFirst: an agent that ends before it has changed the network has
// recorded the limits, and the next one applies them. A change that fails leaves the old
// ones.
func TestCoreEgressIsRecordedFirst(t *testing.T) {
	c := newCore(t, "")
	ref := c.create()
	c.hook.arm(journal.StepEgressApply, false)
	if _, err := c.SetEgress(t.Context(), ref, sandbox.DenyAll()); err == nil {
		t.Fatal("a change that failed succeeded")
	}
	c.denies(ref, sandbox.Egress{})
	c.restart()
	c.denies(ref, sandbox.Egress{})

	met, result := c.hook.arm(journal.StepEgressApply, true), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m := *c
	go func() {
		_, err := m.SetEgress(ctx, ref, sandbox.DenyAll())
		result <- err
	}()
	<-met
	c.crash()
	cancel()
	if err := <-result; err == nil {
		t.Error("a change was acknowledged though the agent ended before it was made")
	}
	c.denies(ref, sandbox.DenyAll())
	c.restart()
	c.denies(ref, sandbox.DenyAll())
	c.sound()
	c.empty()
}
