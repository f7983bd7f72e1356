package fakes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/instance"
	"github.com/wrenn-dev/wrenn/internal/host/network"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// Dial connects to a port of the guest behind the tap device with the path tap.
type Dial func(ctx context.Context, tap string, port uint16) (net.Conn, error)

// Network implements instance.Network. A tap device is an empty file.
type Network struct {
	dir  string
	dial Dial

	mu    sync.Mutex // protects the following
	next  int
	slots map[string]network.Record // by namespace
	owned map[string]bool           // acquired or adopted since Restart
	// limited has the denied ranges of the slots that have some, by namespace.
	limited map[string][]netip.Prefix
}

// NewNetwork returns a network without slots whose tap devices are in dir.
func NewNetwork(dir string, dial Dial) *Network {
	return &Network{dir: dir, dial: dial, slots: make(map[string]network.Record), owned: make(map[string]bool),
		limited: make(map[string][]netip.Prefix)}
}

// Restart makes the network that of the next agent, which owns no slot yet.
func (n *Network) Restart() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.owned)
}

// Slots returns the namespaces of the slots, sorted.
func (n *Network) Slots() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Sorted(maps.Keys(n.slots))
}

// Limited returns the number of slots whose guests are limited.
func (n *Network) Limited() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.limited)
}

// Denied returns the ranges that the guest of the slot called name cannot reach.
func (n *Network) Denied(name string) []netip.Prefix {
	n.mu.Lock()
	defer n.mu.Unlock()
	for netns, rec := range n.slots {
		if rec.ID == name {
			return n.limited[netns]
		}
	}
	return nil
}

// Acquire implements instance.Network.
func (n *Network) Acquire(ctx context.Context, name string, _ vmm.Attachment) (instance.Slot, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next++
	rec := network.Record{
		ID: name, Index: n.next, Netns: fmt.Sprintf("fake-%s-%d", name, n.next), Inode: uint64(n.next),
		HostIP: netip.AddrFrom4([4]byte{10, 200, byte(n.next >> 8), byte(n.next)}),
	}
	if err := errors.Join(ctx.Err(), os.WriteFile(n.tap(rec), nil, 0o600)); err != nil {
		return nil, err
	}
	n.slots[rec.Netns], n.owned[rec.Netns] = rec, true
	return &slot{n, rec}, nil
}

// Adopt implements instance.Network.
func (n *Network) Adopt(_ string, rec network.Record) (instance.Slot, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.slots[rec.Netns] != rec {
		return nil, fault.New(fault.NotFound, "netns_missing", "the network %s is gone", rec.Netns)
	}
	n.owned[rec.Netns] = true
	return &slot{n, rec}, nil
}

// Discard implements instance.Network.
func (n *Network) Discard(_ context.Context, _ string, rec network.Record) { n.remove(rec) }

// Sweep implements instance.Network.
func (n *Network) Sweep(_ context.Context, keep func(netns string) bool) (removed []string, err error) {
	n.mu.Lock()
	var unowned []network.Record
	for name, rec := range n.slots {
		if !n.owned[name] && !keep(name) {
			unowned, removed = append(unowned, rec), append(removed, name)
		}
	}
	n.mu.Unlock()
	for _, rec := range unowned {
		n.remove(rec)
	}
	return removed, nil
}

func (n *Network) tap(rec network.Record) string { return filepath.Join(n.dir, rec.Netns) }

func (n *Network) remove(rec network.Record) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.slots[rec.Netns] == rec {
		delete(n.slots, rec.Netns)
		delete(n.owned, rec.Netns)
		delete(n.limited, rec.Netns)
		_ = os.Remove(n.tap(rec))
	}
}

// slot implements instance.Slot.
type slot struct {
	network *Network
	rec     network.Record
}

func (s *slot) Record() network.Record  { return s.rec }
func (s *slot) GuestAddr() netip.Addr   { return netip.AddrFrom4([4]byte{169, 254, 0, 2}) }
func (s *slot) HostAddr() netip.Addr    { return s.rec.HostIP }
func (s *slot) Number() uint32          { return uint32(s.rec.Index) }
func (s *slot) Release(context.Context) { s.network.remove(s.rec) }
func (s *slot) Limit(deny, _ []netip.Prefix) error {
	s.network.mu.Lock()
	defer s.network.mu.Unlock()
	if len(deny) == 0 || s.network.limited[s.rec.Netns] != nil {
		return errors.New("the slot is limited already, or by nothing")
	}
	s.network.limited[s.rec.Netns] = deny
	return nil
}
func (s *slot) Relimit(deny, _ []netip.Prefix) error {
	s.network.mu.Lock()
	defer s.network.mu.Unlock()
	if delete(s.network.limited, s.rec.Netns); len(deny) > 0 {
		s.network.limited[s.rec.Netns] = deny
	}
	return nil
}
func (s *slot) Attach(vmm.Attachment) (vmm.Network, error) {
	tap := s.network.tap(s.rec)
	return vmm.Network{MAC: network.GuestMAC, OpenTap: func() (*os.File, error) { return os.Open(tap) }, Namespace: tap}, nil
}
func (s *slot) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	return s.network.dial(ctx, s.network.tap(s.rec), port)
}
