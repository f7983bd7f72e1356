package fakes

import (
	"context"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/cgroup"
	"github.com/wrenn-dev/wrenn/internal/host/instance"
)

// Cgroups implements instance.Cgroups. Its groups bound nothing: the processes
// of fake VMs are this process, so that Kill ends none.
type Cgroups struct {
	// Killing, unless nil, is called when the processes of a group are to end. It must
	// not change while an agent uses the groups.
	Killing func(id string)

	mu     sync.Mutex // protects the following
	groups map[string]*group
}

// NewCgroups returns the groups of a host that has none yet.
func NewCgroups() *Cgroups { return &Cgroups{groups: make(map[string]*group)} }

// Groups returns the ids of the groups, sorted.
func (c *Cgroups) Groups() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.groups))
}

// Create implements instance.Cgroups.
func (c *Cgroups) Create(id string, _ cgroup.Limits) (instance.Cgroup, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.groups[id] != nil {
		return nil, fault.New(fault.Exists, "cgroup_exists", "there is a control group %s", id)
	}
	c.groups[id] = &group{owner: c, id: id}
	return c.groups[id], nil
}

// Reuse implements instance.Cgroups.
func (c *Cgroups) Reuse(_ context.Context, id string, _ cgroup.Limits) (instance.Cgroup, error) {
	return c.Adopt(id)
}

// Adopt implements instance.Cgroups.
func (c *Cgroups) Adopt(id string) (instance.Cgroup, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.groups[id]; g != nil {
		return g, nil
	}
	return nil, fault.New(fault.NotFound, "cgroup_missing", "there is no control group %s", id)
}

// Sweep implements instance.Cgroups.
func (c *Cgroups) Sweep(_ context.Context, keep func(id string) bool) (removed []string, err error) {
	for _, id := range c.Groups() {
		if !keep(id) {
			removed = append(removed, id)
			c.remove(id)
		}
	}
	return removed, nil
}

func (c *Cgroups) remove(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.groups, id)
}

// group implements instance.Cgroup.
type group struct {
	owner *Cgroups
	id    string
}

func (*group) Dir() *os.File         { return nil }
func (*group) Add(int) error         { return nil }
func (*group) Background(bool) error { return nil }
func (*group) OOMKilled() bool       { return false }
func (g *group) Remove() error       { g.owner.remove(g.id); return nil }
func (g *group) Kill(context.Context) error {
	if g.owner.Killing != nil {
		g.owner.Killing(g.id)
	}
	return nil
}
