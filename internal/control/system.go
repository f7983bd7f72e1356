package control

import (
	"context"
	"slices"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// GarbageMode selects whether a garbage collection deletes files.
type GarbageMode string

// The modes.
const (
	GarbageList   GarbageMode = "list" // a dry run
	GarbageRemove GarbageMode = "remove"
)

// Garbage is something on a host that nothing needs any more.
type Garbage struct {
	HostID string
	// Kind is "template_snapshot", "snapshot", "vmm_build" or "image".
	Kind  string
	ID    string
	Bytes uint64
	// Reason says why nothing needs it, in a sentence.
	Reason string
}

const (
	// hostsFresh is how old an answer of a host may be that is shown to a user.
	hostsFresh = time.Second
	// hostsPatience is how long the user waits for a host that does not answer.
	hostsPatience = 2 * time.Second
)

// system is the use cases of the installation as a whole.
type system struct {
	common
	store       pingStore
	inventory   *inventory
	firstPasses *firstPasses
}

// pingStore is the part of [Store] that system needs.
type pingStore interface {
	Ping(ctx context.Context) error
}

// Hosts implements Sandboxes. Hosts that have not answered lately are asked
// again first, all at once.
func (s *system) Hosts(ctx context.Context) ([]HostInfo, error) {
	asking, cancel := context.WithTimeout(ctx, hostsPatience)
	defer cancel()
	hosts, _ := s.inventory.observeWhere(asking, func(h HostInfo) bool { return time.Since(h.SeenAt) > hostsFresh })
	return hosts, ctx.Err()
}

// Ready implements Sandboxes.
func (s *system) Ready(ctx context.Context) error {
	if err := s.store.Ping(ctx); err != nil {
		return err
	}
	hosts, err := s.inventory.remembered(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(hosts, func(h HostInfo) bool { return h.Reachable }) {
		return s.firstPasses.ready(hosts)
	}
	return fault.New(fault.HostFailed, "host_unreachable", "no host agent can be reached")
}

// CollectGarbage implements System. Hosts that cannot be reached are left out.
func (s *system) CollectGarbage(ctx context.Context, mode GarbageMode) ([]Garbage, error) {
	ctx, cancel := s.detached(ctx, s.cfg.DestroyTimeout)
	defer cancel()
	hosts, err := s.inventory.remembered(ctx)
	if err != nil {
		return nil, err
	}
	var all []Garbage
	for _, info := range hosts {
		host, ok := s.fleet.Host(info.ID)
		if !ok || !info.Reachable {
			continue
		}
		items, err := host.CollectGarbage(ctx, mode)
		if err != nil {
			return nil, hostFault(err)
		}
		for _, item := range items {
			item.HostID = info.ID
			all = append(all, item)
		}
	}
	return all, nil
}
