package hostclient

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Member is one host of a fleet.
type Member struct {
	// ID must equal the agent's own id, so that a wrong address cannot make the
	// sandboxes of one host look lost and those of another look superfluous.
	ID string
	// Address and Access are as for New.
	Address string
	Access  Access
}

// Fleet is a fixed list of hosts. It is safe for concurrent use.
//
// Invariants: infos has an entry for each client; one whose Reachable is false
// keeps the host's last report.
type Fleet struct {
	// Constant after NewFleet.
	ids     []string
	clients map[string]*Client

	mu    sync.Mutex // protects the following
	infos map[string]control.HostInfo
}

var _ control.Fleet = (*Fleet)(nil)

// NewFleet returns the fleet of members, in that order. It connects to none.
// The caller closes it.
func NewFleet(members []Member) (*Fleet, error) {
	f := &Fleet{clients: make(map[string]*Client), infos: make(map[string]control.HostInfo)}
	for _, m := range members {
		if _, twice := f.clients[m.ID]; twice || m.ID == "" {
			return nil, fault.New(fault.Invalid, "invalid_host_id", "each host needs an id of its own; %q is none", m.ID)
		}
		c, err := New(m.Address, m.Access)
		if err != nil {
			return nil, err
		}
		f.ids = append(f.ids, m.ID)
		f.clients[m.ID] = c
		f.infos[m.ID] = control.HostInfo{ID: m.ID}
	}
	return f, nil
}

// Close closes the connections that are not in use.
func (f *Fleet) Close() {
	for _, c := range f.clients {
		c.Close()
	}
}

// Hosts implements control.Fleet.
func (f *Fleet) Hosts() []control.HostInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]control.HostInfo, 0, len(f.ids))
	for _, id := range f.ids {
		info := f.infos[id]
		info.Templates, info.Pools = slices.Clone(info.Templates), slices.Clone(info.Pools)
		info.TemplateDigests = slices.Clone(info.TemplateDigests)
		out = append(out, info)
	}
	return out
}

// Host implements control.Fleet.
func (f *Fleet) Host(id string) (control.Host, bool) {
	c, ok := f.clients[id]
	if !ok {
		return nil, false
	}
	return c, true
}

// Refresh implements control.Fleet.
func (f *Fleet) Refresh(ctx context.Context, id string) (control.HostInfo, error) {
	c, ok := f.clients[id]
	if !ok {
		return control.HostInfo{}, fault.New(fault.NotFound, "host_not_found", "there is no host %q", id)
	}
	info, err := c.Info(ctx)
	if err == nil && info.ID != id {
		err = fault.New(fault.HostFailed, "host_mismatch", "the agent at the address of host %q says that it is %q", id, info.ID)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		known := f.infos[id]
		known.Reachable = false
		f.infos[id] = known
		return known, err
	}
	info.Reachable, info.SeenAt = true, time.Now().UTC()
	f.infos[id] = info
	return info, nil
}
