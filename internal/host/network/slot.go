package network

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Slot is the network of one sandbox, from Acquire or Adopt to Release.
//
// Invariants: until Release the slot holds its index and the name Netns is its
// namespace's; afterwards every method but Release fails.
type Slot struct {
	// Constant.
	ID      string
	Index   int
	Netns   string // name of the namespace, and of the host's veth end
	GuestIP netip.Addr
	HostIP  netip.Addr // where the host reaches the guest's ports

	pool    *Pool
	hostEnd netip.Addr
	names   nameDir  // where Netns is
	ns      *os.File // closed by Release
	inode   uint64

	// live: the slot's rules are complete, and follow the host's networks. The
	// pool's mutex protects it.
	live bool

	// mu makes concurrent Releases one. It is held over system calls that
	// wait for nothing outside the kernel.
	mu       sync.Mutex
	released bool
	guest    *os.File // see GuestNamespace; nil without one
	unused   bool     // guest has not been given to anybody
}

// Number is the slot's number among all slots that any range of IPv4 addresses
// has, from 0 to 2^30-1. No two slots of one machine have the same, regardless of
// the agent that made them: ranges of pools do not overlap, and a range in which a slot of an
// agent that has ended still is, is taken by that agent's successor only. Pools
// in different network namespaces know nothing of each other; give them
// different ranges.
func (s *Slot) Number() uint32 {
	four := s.HostIP.As4()
	return binary.BigEndian.Uint32(four[:]) >> (32 - slotBits)
}

// Record describes a slot, so that Adopt finds it again. It goes into the journal.
type Record struct {
	ID    string `json:"id"`
	Index int    `json:"index"`
	Netns string `json:"netns"`
	// Inode tells the namespace from a later one of the same name.
	Inode  uint64     `json:"inode"`
	HostIP netip.Addr `json:"host_ip"`
}

// Record returns the slot's record for Adopt.
func (s *Slot) Record() Record {
	return Record{ID: s.ID, Index: s.Index, Netns: s.Netns, Inode: s.inode, HostIP: s.HostIP}
}

// OpenTap opens the tap device for a VMM. One opener at a time: it fails with
// fault.WrongState while a VMM has it open, and works again after that has
// ended.
func (s *Slot) OpenTap() (*os.File, error) {
	var tap *os.File
	err := inside(s.pool.host, s.ns, func() (err error) {
		tap, err = attachTap(false)
		return err
	})
	switch {
	case err == nil:
		return tap, nil
	case errors.Is(err, os.ErrClosed):
		return nil, errReleased()
	case errors.Is(err, unix.EBUSY):
		return nil, fault.Wrap(err, fault.WrongState, "tap_busy", "another VM process still has the sandbox's network device")
	default:
		return nil, fault.Wrap(err, fault.HostFailed, "tap_failed", "the sandbox's network device cannot be opened")
	}
}

// Limit denies the guest connections to the ranges deny, except for those in allow. It
// must be called at most once for a slot, before its VM runs user code; Relimit changes
// the limits afterwards. The rules end with the slot, and outlive the agent.
func (s *Slot) Limit(deny, allow []netip.Prefix) error {
	return s.changeRules(func() error { return install([]table{egressTable(deny, allow)}) })
}

// Relimit replaces the limits of Limit, or adds them to a slot that has none. Without a
// range to deny it removes them. The change is one transaction: each packet meets either
// the old rules or the new ones. Connections to addresses that are denied now are cut: no
// packet of them passes in either direction, also if the guest opened them before. On
// error the old rules hold. It may be called at any time, and more than once.
func (s *Slot) Relimit(deny, allow []netip.Prefix) error {
	return s.changeRules(func() error {
		tables := []table{egressTable(deny, allow)}
		if len(deny) == 0 {
			return uninstall(tables)
		}
		return replace(tables)
	})
}

// changeRules calls change in the slot's namespace. The error is WrongState after Release.
func (s *Slot) changeRules(change func() error) error {
	err := inside(s.pool.host, s.ns, change)
	if errors.Is(err, os.ErrClosed) {
		return errReleased()
	}
	return err
}

// Release removes the namespace's name and the veth pair, and with them all
// that is in the namespace as soon as nothing uses it any more. The VMM must
// have ended. The address is not given out again for a few seconds.
//
// The kernel takes more than ten milliseconds to remove a veth pair (it waits for
// readers of its lists), so that part continues in the background, until Close at
// most.
//
// It cannot fail: names and devices that cannot be removed now are garbage, which the pool tries
// to remove again and whose address it gives to nobody until then. Release is
// idempotent.
func (s *Slot) Release(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.released {
		return
	}
	s.released = true
	_ = s.ns.Close()
	s.closeGuest()
	s.pool.unregister(s)
	if err := s.names.drop(s.Netns); err != nil {
		s.pool.keepGarbage(ctx, s.Netns, err)
		return
	}
	s.pool.dropPairLater(context.WithoutCancel(ctx), s)
}

// dropPair removes the slot's veth pair. It would go with its namespace, but the
// kernel keeps that for some two minutes: so long does a closed connection to a
// guest that is gone try to send its end.
func (s *Slot) dropPair() error { return s.pool.dropHostEnd(s.Netns, s.pool.cfg.ours) }

// freeIndex frees the index of a slot whose pair is gone, or was not removed
// because of err.
func (s *Slot) freeIndex(ctx context.Context, err error) {
	if err != nil {
		s.pool.keepGarbage(ctx, s.Netns, err)
		return
	}
	s.pool.indexes.put(s.Index, time.Now())
}

func errReleased() error {
	return fault.New(fault.WrongState, "network_released", "the sandbox's network has been released")
}
