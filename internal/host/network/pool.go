package network

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/undo"
)

// Pool makes the networks of one agent's sandboxes. Its methods may be called
// from several goroutines.
//
// Invariants: an index held in indexes belongs to exactly one slot, to one piece
// of garbage, or to one Acquire, Adopt or Sweep under way; every slot in slots
// holds its index; no two slots have the same sandbox id.
type Pool struct {
	// Constant after Open.
	cfg         Config
	log         *slog.Logger
	policy      policy // without the networks that the host is in: see joined
	indexes     *indexes
	names       nameDir
	host        *os.File        // the host's network namespace
	nl          *netlink.Handle // into it
	reservation *os.File        // of the address range
	// nameReservation is that of cfg.Name.
	nameReservation *os.File
	life            context.Context // ended by Close
	end             context.CancelFunc
	running         sync.WaitGroup // of the pool's own goroutines

	// joined are the host's addresses and the networks it is in, as rules that
	// are made from now on have them. refresh alone changes it.
	joined  atomic.Pointer[[]netip.Prefix]
	changes *os.File // where the kernel tells of changes of these

	mu     sync.Mutex // protects the following
	slots  map[string]*Slot
	closed bool
	// garbage holds the names that could not be removed yet.
	garbage    map[string]bool
	collecting bool // a goroutine tries to remove the garbage
}

// Open prepares the host (the thread's network namespace) for sandboxes: it
// chooses the address range, turns on IPv4 forwarding and installs the pool's
// nft table. Slots of an earlier agent continue to work meanwhile. It needs
// CAP_NET_ADMIN and CAP_SYS_ADMIN.
func Open(cfg Config, log *slog.Logger) (_ *Pool, err error) {
	if cfg, err = cfg.withDefaults(); err != nil {
		return nil, err
	}
	// All that follows must see one network namespace.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var undoing undo.Stack
	defer func() {
		if err != nil {
			err = errors.Join(err, undoing.Run(context.Background()))
		}
	}()
	p := &Pool{cfg: cfg, log: log, names: namesOf(cfg.Name), slots: map[string]*Slot{}, garbage: map[string]bool{}}
	p.life, p.end = context.WithCancel(context.Background())
	_ = undoing.Push("life", func(context.Context) error { p.end(); return nil })
	if p.host, err = currentNamespace(); err != nil {
		return nil, unreadable(err)
	}
	_ = undoing.Push("host namespace", func(context.Context) error { return p.host.Close() })
	if p.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, unreadable(err)
	}
	_ = undoing.Push("netlink handle", func(context.Context) error { p.nl.Close(); return nil })
	nameReservation, err := reserveName(cfg.Name)
	if err != nil {
		return nil, err
	}
	p.nameReservation = nameReservation
	_ = undoing.Push("network name", func(context.Context) error { return nameReservation.Close() })
	// Before the first look, so that no change is missed.
	if p.changes, err = subscribe(); err != nil {
		return nil, unreadable(err)
	}
	_ = undoing.Push("address and route changes", func(context.Context) error { return p.changes.Close() })
	view, err := look(p.nl, cfg)
	if err != nil {
		return nil, err
	}
	prefix, reservation, err := choose(cfg, view)
	if err != nil {
		return nil, err
	}
	p.reservation = reservation
	_ = undoing.Push("address range", func(context.Context) error { return reservation.Close() })
	p.indexes = newIndexes(slotCount(prefix))
	p.policy = policy{name: cfg.Name, prefix: prefix, nameservers: cfg.Nameservers, limits: cfg.Limits}
	if err := p.names.prepare(); err != nil {
		return nil, fault.Wrap(err, fault.HostFailed, "netns_dir", "the directory %s of network namespaces cannot be made or mounted on itself", p.names)
	}
	_ = undoing.Push("directory of names", func(context.Context) error { return p.names.retire() })
	if err := sysctl("ipv4/ip_forward", "1"); err != nil {
		return nil, fault.Wrap(err, fault.HostFailed, "no_forwarding", "IPv4 forwarding cannot be turned on; this needs root")
	}
	if err := replace(hostTables(p.policy.with(view.addrs))); err != nil {
		return nil, err
	}
	p.joined.Store(&view.addrs)
	p.running.Go(func() { p.watch(p.changes) })
	log.Info("sandbox network is ready", "prefix", prefix.String(), "name", cfg.Name)
	return p, nil
}

// Prefix returns the range that HostIPs are of.
func (p *Pool) Prefix() netip.Prefix { return p.policy.prefix }

// Nameservers returns the configured nameservers that sandboxes can reach.
func (p *Pool) Nameservers() []netip.Addr { return p.policy.nameservers }

// acquireTries bounds how many indexes Acquire tries whose names turn out to
// be taken by namespaces that are not yet adopted or not yet gone.
const acquireTries = 64

// Acquire makes the network of sandbox id. It fails with fault.Exists if the
// pool has one for id, and with fault.NoCapacity if all are in use or have not
// been unused for long enough.
func (p *Pool) Acquire(ctx context.Context, id string) (*Slot, error) {
	return p.acquire(ctx, id, false)
}

// AcquireNamespace is Acquire for a guest in a network namespace. The slot has the
// namespace from the start and never a tap device, whose removal by the first
// GuestNamespace would take the kernel tens of milliseconds.
func (p *Pool) AcquireNamespace(ctx context.Context, id string) (*Slot, error) {
	return p.acquire(ctx, id, true)
}

func (p *Pool) acquire(ctx context.Context, id string, namespace bool) (*Slot, error) {
	if !idPattern.MatchString(id) {
		return nil, fault.New(fault.Invalid, "bad_sandbox_id", "a sandbox id for a network must be 1 to 64 plain characters")
	}
	for range acquireTries {
		if err := ctx.Err(); err != nil {
			return nil, fault.As(err)
		}
		index, ok := p.indexes.next(time.Now())
		if !ok {
			break
		}
		s, err := p.make(ctx, id, index, namespace)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return nil, fault.New(fault.NoCapacity, "no_network", "this host has no free sandbox network")
}

// make builds the namespace of a held index and registers the slot. On error
// the index is given back and nothing of the slot is left, but for garbage. An
// error that is fs.ErrExist means that the index's names are taken.
func (p *Pool) make(ctx context.Context, id string, index int, namespace bool) (_ *Slot, err error) {
	s := p.newSlot(id, index)
	if err := p.register(s); err != nil {
		p.indexes.put(index, time.Now())
		return nil, err
	}
	if err := p.names.claim(s.Netns, p.cfg.mark(id)); err != nil {
		p.unregister(s)
		p.indexes.put(index, time.Now())
		return nil, notMade(err)
	}
	joined := p.joined.Load()
	err = insideNew(p.host, func() error { return p.build(s, p.policy.with(*joined), namespace) })
	if err == nil {
		s.ns, s.inode, err = p.names.open(s.Netns)
	}
	if err == nil {
		if err = p.current(s, joined); err != nil {
			_ = s.ns.Close()
		}
	}
	if err != nil {
		s.closeGuest() // nobody else has the slot yet
		p.unregister(s)
		p.abandon(ctx, s)
		return nil, notMade(err)
	}
	return s, nil
}

// abandon frees the claimed name of a slot that was not made, and its index. The
// veth pair goes with the namespace that never got the name.
func (p *Pool) abandon(ctx context.Context, s *Slot) {
	if err := p.names.drop(s.Netns); err != nil {
		p.keepGarbage(ctx, s.Netns, err)
		return
	}
	p.indexes.put(s.Index, time.Now())
}

func notMade(err error) error {
	return fault.Wrap(err, fault.HostFailed, "network_not_made", "the sandbox's network could not be made on the host")
}

func (p *Pool) newSlot(id string, index int) *Slot {
	hostEnd, hostIP := slotAddrs(p.policy.prefix, index)
	return &Slot{
		ID: id, Index: index, Netns: p.cfg.slotName(index), GuestIP: GuestIP, HostIP: hostIP,
		pool: p, hostEnd: hostEnd, names: p.names,
	}
}

func (p *Pool) register(s *Slot) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fault.New(fault.WrongState, "network_closed", "the host agent is shutting down")
	}
	if p.slots[s.ID] != nil {
		return fault.New(fault.Exists, "network_exists", "sandbox %s has a network already", s.ID)
	}
	p.slots[s.ID] = s
	return nil
}

func (p *Pool) unregister(s *Slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.slots[s.ID] == s {
		delete(p.slots, s.ID)
	}
}

// Close ends the agent's hold on the host. Slots live on, with the host's
// rules, for a later agent to adopt; the rules go only if there is no slot.
// The caller has ended its calls before.
func (p *Pool) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	slots := make([]*Slot, 0, len(p.slots))
	for _, s := range p.slots {
		slots = append(slots, s)
	}
	p.mu.Unlock()
	p.end()
	errs := []error{p.changes.Close()}
	p.running.Wait()
	names, err := p.namespaces()
	errs = append(errs, err)
	if err == nil && len(names) == 0 {
		errs = append(errs, inside(p.host, p.host, func() error { return uninstall(hostTables(p.policy)) }))
	}
	for _, s := range slots {
		errs = append(errs, s.ns.Close())
		s.mu.Lock()
		s.closeGuest()
		s.mu.Unlock()
	}
	p.nl.Close()
	errs = append(errs, p.names.retire())
	return errors.Join(append(errs, p.reservation.Close(), p.nameReservation.Close(), p.host.Close())...)
}
