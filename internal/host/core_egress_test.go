package host_test

import (
	"testing"

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
