package datafs

import "testing"

// TestGuardTarget checks that the usable space of the inner file system never exceeds the space that
// the disk below can take, and nothing is held where there is plenty.
func TestGuardTarget(t *testing.T) {
	const mb = 1 << 20
	for name, c := range map[string]struct {
		view spaceView
		want int64
	}{
		"plenty below":                {spaceView{total: 5000 * mb, free: 4900 * mb, written: 100 * mb, below: 9000 * mb}, 0},
		"below full":                  {spaceView{total: 5000 * mb, free: 4900 * mb, written: 100 * mb, below: 4 * mb}, 4900 * mb},
		"below full, all held":        {spaceView{total: 5000 * mb, free: 0, held: 4900 * mb, written: 100 * mb, below: 4 * mb}, 4900 * mb},
		"half":                        {spaceView{total: 5000 * mb, free: 4900 * mb, written: 100 * mb, below: 1256 * mb}, 3900 * mb},
		"half, held already":          {spaceView{total: 5000 * mb, free: 1000 * mb, held: 3900 * mb, written: 100 * mb, below: 1256 * mb}, 3900 * mb},
		"space again":                 {spaceView{total: 5000 * mb, free: 0, held: 4900 * mb, written: 100 * mb, below: 9000 * mb}, 0},
		"what is used is not written": {spaceView{total: 5000 * mb, free: 3000 * mb, written: 100 * mb, below: 2156 * mb}, 3000 * mb},
	} {
		if got := c.view.target(); got != c.want {
			t.Errorf("%s: holds %d MB, want %d MB", name, got/mb, c.want/mb)
		}
	}
}
