package boot

import "testing"

// TestSentryHeapExpectsGrowth: the heap is taken to double after each collection of
// garbage, and to keep the memory of the host that it had for some time.
func TestSentryHeapExpectsGrowth(t *testing.T) {
	const mb = 1 << 20
	var h sentryHeap
	for _, step := range []struct {
		size, live uint64
	}{
		{10 * mb, 10 * mb}, // the first look
		{19 * mb, 10 * mb}, // garbage, perhaps
		{12 * mb, 12 * mb}, // collected
		{24 * mb, 12 * mb},
		{100 * mb, 100 * mb}, // more than twice: collected unseen
		{20 * mb, 20 * mb},
	} {
		h.note(step.size)
		if h.live != step.live {
			t.Errorf("with a heap of %d MiB, %d MiB are live, want %d", step.size/mb, h.live/mb, step.live/mb)
		}
	}
	if h.held != 100*mb || h.most() != 45*mb {
		t.Errorf("the heap holds %d MiB and may grow to %d, want 100 and 45", h.held/mb, h.most()/mb)
	}
	h.at = h.at.Add(-2 * heldFor)
	h.note(20 * mb)
	if h.held != 20*mb {
		t.Errorf("the heap holds %d MiB after %s, want 20", h.held/mb, 2*heldFor)
	}
}
