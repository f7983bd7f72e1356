package instance

import (
	"context"
	"net/netip"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/cgroup"
	"github.com/wrenn-dev/wrenn/internal/host/network"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// NetworkOf returns the pool as a Network. Its Close is the pool's.
func NetworkOf(pool *network.Pool) Network { return realNetwork{pool} }

type realNetwork struct{ *network.Pool }

// Acquire implements Network.
func (n realNetwork) Acquire(ctx context.Context, name string, how vmm.Attachment) (Slot, error) {
	if how == vmm.AttachNamespace {
		return slotOf(n.Pool.AcquireNamespace(ctx, name))
	}
	return slotOf(n.Pool.Acquire(ctx, name))
}

// Adopt implements Network.
func (n realNetwork) Adopt(name string, rec network.Record) (Slot, error) {
	return slotOf(n.Pool.Adopt(name, rec))
}

type realSlot struct{ *network.Slot }

// slotOf never returns a nil *network.Slot in a non-nil Slot.
func slotOf(s *network.Slot, err error) (Slot, error) {
	if err != nil {
		return nil, err
	}
	return realSlot{s}, nil
}

// GuestAddr implements Slot.
func (s realSlot) GuestAddr() netip.Addr { return s.GuestIP }

// HostAddr implements Slot.
func (s realSlot) HostAddr() netip.Addr { return s.HostIP }

// Attach implements Slot.
func (s realSlot) Attach(how vmm.Attachment) (vmm.Network, error) {
	switch how {
	case vmm.AttachTap:
		return vmm.Network{MAC: network.GuestMAC, OpenTap: s.OpenTap}, nil
	case vmm.AttachNamespace:
		path, err := s.GuestNamespace()
		return vmm.Network{MAC: network.GuestMAC, Namespace: path}, err
	default:
		return vmm.Network{}, fault.New(fault.Internal, "internal", "a network has no attachment %q", how)
	}
}

// CgroupsOf returns the manager as Cgroups. Its Close is the manager's.
func CgroupsOf(m *cgroup.Manager) Cgroups { return realCgroups{m} }

type realCgroups struct{ *cgroup.Manager }

// Create implements Cgroups.
func (c realCgroups) Create(id string, limits cgroup.Limits) (Cgroup, error) {
	return groupOf(c.Manager.Create(id, limits))
}

// Reuse implements Cgroups.
func (c realCgroups) Reuse(ctx context.Context, id string, limits cgroup.Limits) (Cgroup, error) {
	return groupOf(c.Manager.Reuse(ctx, id, limits))
}

// Adopt implements Cgroups.
func (c realCgroups) Adopt(id string) (Cgroup, error) { return groupOf(c.Manager.Adopt(id)) }

// groupOf never returns a nil *cgroup.Group in a non-nil Cgroup.
func groupOf(g *cgroup.Group, err error) (Cgroup, error) {
	if err != nil {
		return nil, err
	}
	return g, nil
}
