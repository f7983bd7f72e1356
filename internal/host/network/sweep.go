package network

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Adopt takes over the slot of rec, made for sandbox id by an earlier agent.
// It fails with fault.NotFound if the namespace is gone or is another one, and
// with fault.Exists if the pool has the slot already.
func (p *Pool) Adopt(id string, rec Record) (_ *Slot, err error) {
	gone := fault.New(fault.NotFound, "netns_missing", "the sandbox's network namespace is gone")
	index, ok := p.cfg.slotIndex(rec.Netns)
	if !ok || index != rec.Index || id != rec.ID {
		return nil, gone
	}
	if !p.indexes.hold(index) {
		return nil, fault.New(fault.Exists, "network_exists", "the network %s is in use", rec.Netns)
	}
	s := p.newSlot(id, index)
	defer func() {
		if err != nil {
			p.indexes.put(index, time.Now())
		}
	}()
	if s.HostIP != rec.HostIP {
		return nil, gone
	}
	if err = s.openAnywhere(); err != nil {
		return nil, err
	}
	mark, err := markOf(p.host, s.ns)
	if err == nil && (s.inode != rec.Inode || mark != p.cfg.mark(id)) {
		err = gone
	}
	if err == nil {
		err = p.register(s)
	}
	if err != nil {
		_ = s.ns.Close()
		return nil, err
	}
	p.renewRules(s)
	return s, nil
}

// renewRules gives an adopted slot the rules of this agent: the earlier one may
// have had others. Where that fails it keeps its old rules.
func (p *Pool) renewRules(s *Slot) {
	joined := p.joined.Load()
	err := inside(p.host, s.ns, func() error {
		return replace(sandboxTables(p.policy.with(*joined), s.hostEnd, s.HostIP))
	})
	if err = errors.Join(err, p.current(s, joined)); err != nil {
		p.log.Error("a sandbox keeps the firewall rules of an earlier agent", "sandbox", s.ID, "error", err)
	}
}

// Discard removes the network that rec names, made for sandbox id by an earlier
// agent and not adopted. Like Release it cannot fail. A record whose network is
// gone, or is another sandbox's by now, changes nothing.
func (p *Pool) Discard(ctx context.Context, id string, rec Record) {
	index, ok := p.cfg.slotIndex(rec.Netns)
	if !ok || index != rec.Index || id != rec.ID {
		return
	}
	mark := p.cfg.mark(id)
	p.sweepName(ctx, rec.Netns, func(m string) bool { return m == mark })
}

// Sweep removes every namespace and veth end with this pool's owner mark that
// is neither a slot of the pool nor wanted by keep, which is asked with the
// namespace's name. It returns the names that it removed. A name that cannot be
// removed becomes garbage and is no error. Call Sweep after the processes in
// the namespaces have ended and all slots to keep have been adopted.
func (p *Pool) Sweep(ctx context.Context, keep func(name string) bool) ([]string, error) {
	names, err := p.namespaces()
	if err != nil {
		return nil, err
	}
	var removed []string
	for _, name := range names {
		if ctx.Err() != nil {
			return removed, fault.As(ctx.Err())
		}
		if !keep(name) && p.sweepName(ctx, name, p.cfg.ours) {
			removed = append(removed, name)
		}
	}
	ends, err := p.sweepEnds(keep)
	for _, name := range ends {
		if !slices.Contains(removed, name) {
			removed = append(removed, name)
		}
	}
	if err != nil {
		return removed, fault.Wrap(err, fault.HostFailed, "sweep_failed", "some left-over sandbox networks could not be removed")
	}
	return removed, nil
}

// namespaces lists the names that look like this pool's, marked or not, each
// once.
func (p *Pool) namespaces() ([]string, error) {
	accept := func(name string) bool { _, ok := p.cfg.slotIndex(name); return ok }
	var names []string
	for _, d := range p.nameDirs() {
		some, err := d.list(accept)
		if err != nil {
			return nil, unreadable(err)
		}
		names = append(names, some...)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// nameDirs are the directories in which names of the pool may be, its own first.
func (p *Pool) nameDirs() []nameDir { return []nameDir{p.names, sharedNames} }

// openAnywhere opens the slot's namespace by its name in any of the directories.
func (s *Slot) openAnywhere() (err error) {
	for _, s.names = range s.pool.nameDirs() {
		if s.ns, s.inode, err = s.names.open(s.Netns); !fault.Is(err, fault.NotFound) {
			break
		}
	}
	return err
}

// sweepName removes one name with a mark that is ours if nobody holds its
// index. It holds the index meanwhile, so that no Acquire meets half of it.
func (p *Pool) sweepName(ctx context.Context, name string, ours func(mark string) bool) (removed bool) {
	index, _ := p.cfg.slotIndex(name)
	held := p.indexes.hold(index)
	// A name beyond the range is of a pool that had a larger prefix.
	if !held && index < p.indexes.size {
		return false
	}
	found, err := p.remove(name, ours)
	if err != nil {
		p.keepGarbage(ctx, name, err)
		return false
	}
	if held {
		p.indexes.put(index, time.Now())
	}
	return found
}

// mark returns the owner mark of a name; empty if there is none.
func (d nameDir) mark(home *os.File, name string) (string, error) {
	ns, _, err := d.open(name)
	if fault.Is(err, fault.NotFound) {
		text, err := os.ReadFile(d.path(name))
		return string(text), ignore(err, unix.ENOENT, unix.EISDIR)
	}
	if err != nil {
		return "", err
	}
	defer ns.Close()
	return markOf(home, ns)
}

// markOf reads the alias of a namespace's loopback device.
func markOf(home, ns *os.File) (string, error) {
	var alias string
	err := inside(home, ns, func() error {
		nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer nl.Close()
		lo, err := nl.LinkByName("lo")
		if err != nil {
			return err
		}
		alias = lo.Attrs().Alias
		return nil
	})
	if err != nil {
		return "", unreadable(err)
	}
	return alias, nil
}

// sweepEnds removes marked veth ends in the host whose namespace has no name
// any more but is kept alive by something else. Those of indexes at rest are
// left for a later sweep: as a rule they are going by themselves.
func (p *Pool) sweepEnds(keep func(name string) bool) ([]string, error) {
	links, err := dump(p.nl.LinkList)
	if err != nil {
		return nil, unreadable(err)
	}
	var removed []string
	var errs []error
	for _, l := range links {
		name := l.Attrs().Name
		index, ok := p.cfg.slotIndex(name)
		if !ok || !p.cfg.ours(l.Attrs().Alias) || keep(name) || !p.indexes.idle(index, time.Now()) {
			continue
		}
		// ENODEV, EINVAL: its namespace went meanwhile and took it along.
		switch err := p.nl.LinkDel(l); {
		case err == nil:
			removed = append(removed, name)
		default:
			errs = append(errs, ignore(err, unix.ENODEV, unix.EINVAL))
		}
	}
	return removed, errors.Join(errs...)
}
