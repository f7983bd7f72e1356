package gvisor

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

// guard stops sandboxes before their disks use up the memory of the host.
//
// The disks are in memory, and the host promises more of them than it has, because
// few are ever full. If many fill up, the kernel would end processes of the host, or
// sandboxes that use no more than their own. The guard therefore watches the host's
// available memory. Below the floor it pauses sandboxes that use more than their share
// (their memory and the part of their disk that was counted), the greediest first,
// until no other memory is taken. For the host this is a full disk: vmm.VM.Stalled and
// OutOfSpace report it, and Resume continues the sandbox once there is memory again.
//
// There is one guard for all sandboxes of a driver. It is safe for concurrent use.
// While there is no sandbox, it does not run.
type guard struct {
	floor     uint64 // bytes; 0 turns the guard off
	available func() (uint64, error)
	log       *slog.Logger

	mu      sync.Mutex // protects the following
	guarded map[guarded]bool
	running bool // run has been started and has not ended
}

// guarded is a sandbox that a guard can pause.
type guarded interface {
	// excess returns the memory, in bytes, that the sandbox uses beyond its share. It
	// is 0 for a sandbox that is paused.
	excess() uint64
	// hold pauses the sandbox until release is allowed.
	hold(ctx context.Context) error
}

const (
	// hostFillRate is the most memory, in bytes a second, that the sandboxes of a host
	// are assumed to fill. The time until the next look follows from it.
	hostFillRate = 4 << 30
	guardOften   = 50 * time.Millisecond
	guardSeldom  = 5 * time.Second
	// guardPatience bounds how long a sentry may take to pause.
	guardPatience = 5 * time.Second
	// guardBatch is the number of sandboxes that are paused before the next look.
	guardBatch = 4
)

func newGuard(floorMB int, log *slog.Logger) *guard {
	return &guard{floor: uint64(floorMB) << 20, available: availableMemory, log: log, guarded: make(map[guarded]bool)}
}

// availableMemory returns the host's available memory in bytes.
func availableMemory() (uint64, error) {
	info, err := proc.ReadMemInfo()
	return info["MemAvailable"], err
}

// add begins to guard a sandbox.
func (g *guard) add(s guarded) {
	if g.floor == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.guarded[s] = true
	if !g.running {
		g.running = true
		// It ends after the last sandbox.
		go func() {
			if err := fault.Caught(func() error { g.run(); return nil }); err != nil {
				g.panicked()
			}
		}()
	}
}

// remove ends the guarding of a sandbox.
func (g *guard) remove(s guarded) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.guarded, s)
}

// short reports whether paused sandboxes have to stay paused. More memory is needed to
// continue than to stay, so that they do not alternate.
func (g *guard) short() bool {
	free, err := g.available()
	return err == nil && free < g.floor+g.floor/4
}

// panicked lets the next sandbox start run again.
func (g *guard) panicked() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running = false
}

// run looks until there is no sandbox.
func (g *guard) run() {
	for {
		pause, done := g.look()
		if done {
			return
		}
		time.Sleep(pause)
	}
}

// ends reports whether there is no sandbox, and then lets the next one start run again.
func (g *guard) ends() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running = len(g.guarded) > 0
	return !g.running
}

// look pauses sandboxes if memory is short, and returns the time until the next look.
// It is done if there is no sandbox.
func (g *guard) look() (pause time.Duration, done bool) {
	if g.ends() {
		return 0, true
	}
	free, err := g.available()
	if err != nil {
		return guardSeldom, false
	}
	if free >= g.floor {
		// A float64, because the product of bytes and nanoseconds exceeds 64 bits.
		pause := time.Duration(float64(free-g.floor) / hostFillRate * float64(time.Second))
		return min(max(pause, guardOften), guardSeldom), false
	}
	greedy, failed := g.greediest(), 0
	for _, s := range greedy {
		ctx, cancel := context.WithTimeout(context.Background(), guardPatience)
		if err := s.hold(ctx); err != nil {
			failed++
			g.log.Warn("a sandbox that uses too much memory of the host cannot be paused, will try again", "error", err)
		}
		cancel()
	}
	if failed > 0 && failed == len(greedy) {
		return guardSeldom, false // the log must not fill the host's disk
	}
	return guardOften, false
}

// greediest returns sandboxes that use more than their share, the greediest first.
func (g *guard) greediest() []guarded {
	type greedy struct {
		guarded
		excess uint64
	}
	g.mu.Lock()
	var found []greedy
	for s := range g.guarded {
		found = append(found, greedy{guarded: s})
	}
	g.mu.Unlock()
	for i := range found {
		found[i].excess = found[i].guarded.excess()
	}
	found = slices.DeleteFunc(found, func(s greedy) bool { return s.excess == 0 })
	slices.SortFunc(found, func(a, b greedy) int { return cmp.Compare(b.excess, a.excess) })
	var first []guarded
	for _, s := range found[:min(len(found), guardBatch)] {
		first = append(first, s.guarded)
	}
	return first
}
