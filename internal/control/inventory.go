package control

import (
	"context"
	"slices"
	"sync"
)

// inventory knows the hosts' capacity, from the fleet, and records it in the store.
type inventory struct {
	common
	store hostStore
}

// hostStore is the part of [Store] that inventory needs.
type hostStore interface {
	SaveHost(ctx context.Context, h HostInfo, c Capacity) error
}

// remembered returns the hosts' last reports. If no host could be reached, it asks
// all of them again first.
func (i *inventory) remembered(ctx context.Context) ([]HostInfo, error) {
	if hosts := i.fleet.Hosts(); slices.ContainsFunc(hosts, func(h HostInfo) bool { return h.Reachable }) {
		return hosts, nil
	}
	return i.observeWhere(ctx, func(HostInfo) bool { return true })
}

// observeWhere asks the hosts that stale selects, and returns the reports of all.
func (i *inventory) observeWhere(ctx context.Context, stale func(HostInfo) bool) ([]HostInfo, error) {
	var wg sync.WaitGroup
	for _, h := range i.fleet.Hosts() {
		if stale(h) {
			// The fleet records that a host did not answer.
			wg.Go(func() {
				i.guarded("asking a host", func() error { _, _ = i.observe(ctx, h.ID); return nil })
			})
		}
	}
	wg.Wait()
	return i.fleet.Hosts(), ctx.Err()
}

// observe asks one host for its present state and records the answer, so that rows
// can be placed on it.
func (i *inventory) observe(ctx context.Context, id string) (HostInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, i.cfg.AskTimeout)
	defer cancel()
	info, err := i.fleet.Refresh(ctx, id)
	if err != nil {
		return info, err
	}
	return info, i.store.SaveHost(ctx, info, i.cfg.capacityOf(info))
}
