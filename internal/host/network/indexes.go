package network

import (
	"net/netip"
	"sync"
	"time"
)

// coolDown is how long an address stays unused after its sandbox has gone, so
// that packets still under way to the old one do not reach the next.
const coolDown = 3 * time.Second

// indexes hands out the numbers of slots.
//
// Invariants: a number is held by at most one holder; one that was put back is
// not handed out by next for coolDown, nor before all numbers above it have
// had their turn.
type indexes struct {
	size int // constant

	mu      sync.Mutex // protects the following
	held    map[int]bool
	resting map[int]time.Time // number to the time from which it may be used
	turn    int
}

func newIndexes(size int) *indexes {
	return &indexes{size: size, held: map[int]bool{}, resting: map[int]time.Time{}}
}

// next holds a free number; ok is false if there is none.
func (x *indexes) next(now time.Time) (index int, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for range x.size {
		i := x.turn
		x.turn = (x.turn + 1) % x.size
		if x.held[i] || now.Before(x.resting[i]) {
			continue
		}
		delete(x.resting, i)
		x.held[i] = true
		return i, true
	}
	return 0, false
}

// hold holds the number i, resting or not; it reports false if it is held.
func (x *indexes) hold(i int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i < 0 || i >= x.size || x.held[i] {
		return false
	}
	delete(x.resting, i)
	x.held[i] = true
	return true
}

// put gives the number back, to rest.
func (x *indexes) put(i int, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.held, i)
	x.resting[i] = now.Add(coolDown)
}

// idle reports whether i is neither held nor resting.
func (x *indexes) idle(i int, now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.held[i] && !now.Before(x.resting[i])
}

// slotBits is the prefix length of one slot's veth pair.
const slotBits = 30

// slotCount is the number of slots in p.
func slotCount(p netip.Prefix) int { return 1 << (slotBits - p.Bits()) }

// slotAddrs returns the two addresses of slot index in p: of the host's end of
// the veth pair and of the namespace's, the HostIP.
func slotAddrs(p netip.Prefix, index int) (hostEnd, hostIP netip.Addr) {
	hostEnd = add(p.Addr(), uint32(index)<<(32-slotBits)+1)
	return hostEnd, hostEnd.Next()
}
