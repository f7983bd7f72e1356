package control

import (
	"context"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// usageAge is the age up to which the known usage of hosts is believed without a look at the
// database. It only decides which host is tried first.
const usageAge = 5 * time.Second

// usageCache caches the usage of hosts, so that a create does not have to sum it up.
// It is an estimate: other servers create too, and ended sandboxes are not
// subtracted. The store decides.
//
// It also knows the memory and disk that this process has promised to sandboxes on each
// host. A report of a host that is older than a promise does not count it.
//
// Invariants: known is nil, or the store's sums at readAt plus the capacity that
// this process has put on hosts since then.
type usageCache struct {
	store usageStore

	mu     sync.Mutex // protects the following
	known  map[string]Capacity
	readAt time.Time
	// promises are by host, the oldest first.
	promises map[string][]promise
}

// promise is the memory and disk, in MiB, that sandboxes were promised on a host. Where
// disks are in memory, a share of them counts as memory.
type promise struct {
	at               time.Time
	memoryMB, diskMB int
}

// promiseTo returns the promise to count sandboxes of spec on h.
func promiseTo(h HostInfo, spec sandbox.Spec, count int) promise {
	share := 0.0
	if i := slices.IndexFunc(h.Runtimes, func(r HostRuntime) bool { return r.Runtime == spec.Runtime }); i >= 0 {
		share = h.Runtimes[i].DiskMemoryShare
	}
	memory := spec.MemoryMB + int(math.Ceil(float64(spec.DiskMB)*share))
	return promise{at: time.Now(), memoryMB: count * memory, diskMB: count * spec.DiskMB}
}

// usageStore is the part of [Store] that a usageCache needs.
type usageStore interface {
	Usage(ctx context.Context) (map[string]Capacity, error)
}

func newUsageCache(store usageStore) *usageCache {
	return &usageCache{store: store, promises: make(map[string][]promise)}
}

// byHost returns, by host id, the capacity that live sandboxes hold. The caller may
// keep the map.
func (l *usageCache) byHost(ctx context.Context) (map[string]Capacity, error) {
	l.mu.Lock()
	if l.known != nil && time.Since(l.readAt) < usageAge {
		defer l.mu.Unlock()
		return maps.Clone(l.known), nil
	}
	l.mu.Unlock()
	at := time.Now()
	known, err := l.store.Usage(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.readAt = maps.Clone(known), at
	return known, nil
}

// promised returns the memory and disk, in MiB, that this process has promised on h
// since its last report.
func (l *usageCache) promised(h HostInfo) (memoryMB, diskMB int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	since := slices.DeleteFunc(l.promises[h.ID], func(p promise) bool { return !p.at.After(h.SeenAt) })
	if l.promises[h.ID] = since; len(since) == 0 {
		delete(l.promises, h.ID)
	}
	for _, p := range since {
		memoryMB, diskMB = memoryMB+p.memoryMB, diskMB+p.diskMB
	}
	return memoryMB, diskMB
}

// add counts the capacity of sandboxes that were just placed on a host, and the promise
// to them.
func (l *usageCache) add(hostID string, c Capacity, p promise) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.promises[hostID] = append(l.promises[hostID], p)
	if l.known == nil {
		return
	}
	sum := l.known[hostID]
	l.known[hostID] = Capacity{VCPUs: sum.VCPUs + c.VCPUs, MemoryMB: sum.MemoryMB + c.MemoryMB}
}

// forget has the next byHost read the database, and forgets the promises: the caller
// asks the hosts anew.
func (l *usageCache) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = nil
	clear(l.promises)
}
