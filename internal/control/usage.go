package control

import (
	"context"
	"maps"
	"sync"
	"time"
)

// usageAge is the age up to which the known usage of hosts is believed without a look at the
// database. It only decides which host is tried first.
const usageAge = 5 * time.Second

// usageCache caches the usage of hosts, so that a create does not have to sum it up.
// It is an estimate: other servers create too, and ended sandboxes are not
// subtracted. The store decides.
//
// Invariants: known is nil, or the store's sums at readAt plus the capacity that
// this process has put on hosts since then.
type usageCache struct {
	store usageStore

	mu     sync.Mutex // protects the following
	known  map[string]Capacity
	readAt time.Time
}

// usageStore is the part of [Store] that a usageCache needs.
type usageStore interface {
	Usage(ctx context.Context) (map[string]Capacity, error)
}

func newUsageCache(store usageStore) *usageCache { return &usageCache{store: store} }

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

// add counts the capacity of a sandbox that was just placed on a host.
func (l *usageCache) add(hostID string, c Capacity) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		return
	}
	sum := l.known[hostID]
	l.known[hostID] = Capacity{VCPUs: sum.VCPUs + c.VCPUs, MemoryMB: sum.MemoryMB + c.MemoryMB}
}

// forget has the next byHost read the database.
func (l *usageCache) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = nil
}
