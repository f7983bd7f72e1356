package control

import "context"

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
	// Kind is "template_snapshot", "snapshot" or "vmm_build".
	Kind  string
	ID    string
	Bytes uint64
	// Reason says why nothing needs it, in a sentence.
	Reason string
}

// CollectGarbage implements System. Hosts that cannot be reached are left out.
func (s *Service) CollectGarbage(ctx context.Context, mode GarbageMode) ([]Garbage, error) {
	ctx, cancel := s.detached(ctx, s.cfg.DestroyTimeout)
	defer cancel()
	hosts, err := s.remembered(ctx)
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
