package control

import (
	"context"

	"github.com/wrenn-dev/wrenn/internal/control/placement"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// placer chooses a host for a new row and inserts the row.
type placer struct {
	common
	store     placeStore
	inventory *inventory
	usage     *usageCache
	server    ServerID
}

// placeStore is the part of [Store] that a placer needs.
type placeStore interface {
	Insert(ctx context.Context, row Sandbox) (Sandbox, error)
}

// admit chooses a host for row, or takes the one given, and inserts it. The
// choice is made on numbers that may be old, so the store decides. Hosts that
// seem full are asked again before a create is refused.
func (p *placer) admit(ctx context.Context, row Sandbox, hostID string) (Sandbox, error) {
	demand := placement.Demand{Spec: row.Spec, MultiTenant: p.cfg.RequireMultiTenant, HostID: hostID}
	inserted, err := p.place(ctx, row, demand)
	if !fault.Is(err, fault.NoCapacity) {
		return inserted, err
	}
	p.usage.forget()
	if _, err := p.inventory.observeWhere(ctx, func(HostInfo) bool { return true }); err != nil {
		return Sandbox{}, err
	}
	return p.place(ctx, row, demand)
}

// place inserts row on the best host that the store lets it have.
func (p *placer) place(ctx context.Context, row Sandbox, demand placement.Demand) (Sandbox, error) {
	candidates, err := p.candidates(ctx)
	if err != nil {
		return Sandbox{}, err
	}
	for {
		best, runtime, err := placement.Choose(demand, candidates)
		if err != nil {
			return Sandbox{}, err
		}
		host := &candidates[best]
		row.HostID, row.Spec.Runtime = host.ID, runtime.Name
		row.Acceleration, row.Isolation = runtime.Acceleration, runtime.Isolation
		inserted, err := p.insert(ctx, row)
		if !fault.Is(err, fault.NoCapacity) {
			return inserted, err
		}
		host.FreeVCPUs, host.FreeMemoryMB = 0, 0
	}
}

// insert writes row, and records its host first if that has not been done: the
// fleet knows of a host a moment before the database does.
func (p *placer) insert(ctx context.Context, row Sandbox) (Sandbox, error) {
	row.Server = p.server
	inserted, err := p.store.Insert(ctx, row)
	if fault.ReasonOf(err) == ReasonHostNotRecorded {
		if _, err := p.inventory.observe(ctx, row.HostID); err != nil {
			return Sandbox{}, err
		}
		inserted, err = p.store.Insert(ctx, row)
	}
	if err == nil {
		p.usage.add(row.HostID, Capacity{VCPUs: row.Spec.VCPUs, MemoryMB: row.Spec.MemoryMB}, promiseTo(p.report(row.HostID), row.Spec, 1))
	}
	return inserted, err
}

// candidates returns all hosts with their free capacity, as far as it is known.
func (p *placer) candidates(ctx context.Context) ([]placement.Host, error) {
	hosts, err := p.inventory.remembered(ctx)
	if err != nil {
		return nil, err
	}
	used, err := p.usage.byHost(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]placement.Host, 0, len(hosts))
	for _, h := range hosts {
		total, held := p.cfg.capacityOf(h), used[h.ID]
		memory, disk := p.usage.promised(h)
		out = append(out, placement.Host{
			ID: h.ID, Reachable: h.Reachable, Draining: h.Draining,
			Runtimes: runtimesOf(h), Limits: h.Limits, Templates: h.Templates,
			TotalMemoryMB: total.MemoryMB, FreeMemoryMB: min(total.MemoryMB-held.MemoryMB, h.MemoryRoomMB-memory),
			FreeVCPUs: total.VCPUs - held.VCPUs, FreeDiskMB: h.DiskRoomMB - disk,
		})
	}
	return out, nil
}

func runtimesOf(h HostInfo) []placement.Runtime {
	out := make([]placement.Runtime, 0, len(h.Runtimes))
	for _, r := range h.Runtimes {
		out = append(out, placement.Runtime{
			Name: r.Runtime, Acceleration: r.Acceleration, Isolation: r.Isolation, MultiTenant: r.MultiTenant,
			DiskMemoryShare: r.DiskMemoryShare,
		})
	}
	return out
}
