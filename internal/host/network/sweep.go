package network

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	if s.ns, s.inode, err = openName(rec.Netns); err != nil {
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
	return s, nil
}

// Sweep removes every namespace and veth end with this pool's owner mark that
// is neither a slot of the pool nor wanted by keep, which is asked with the
// namespace's name. It returns the names of what it removed. Call it after the
// processes in them have ended and all slots to keep have been adopted.
func (p *Pool) Sweep(ctx context.Context, keep func(name string) bool) ([]string, error) {
	names, err := p.namespaces()
	if err != nil {
		return nil, err
	}
	var removed []string
	var errs []error
	for _, name := range names {
		if ctx.Err() != nil {
			return removed, fault.As(ctx.Err())
		}
		if keep(name) {
			continue
		}
		ok, err := p.sweepName(name)
		errs = append(errs, err)
		if ok {
			removed = append(removed, name)
		}
	}
	ends, err := p.sweepEnds(keep)
	for _, name := range ends {
		if !slices.Contains(removed, name) {
			removed = append(removed, name)
		}
	}
	if err := errors.Join(append(errs, err)...); err != nil {
		return removed, fault.Wrap(err, fault.HostFailed, "sweep_failed", "some left-over sandbox networks could not be removed")
	}
	return removed, nil
}

// namespaces lists the names that look like this pool's, marked or not.
func (p *Pool) namespaces() ([]string, error) {
	entries, err := os.ReadDir(netnsDir)
	if err != nil {
		return nil, unreadable(err)
	}
	var names []string
	for _, e := range entries {
		if _, ok := p.cfg.slotIndex(e.Name()); ok {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// sweepName removes one namespace's name if nobody holds its index and it is
// ours. It holds the index meanwhile, so that no Acquire meets half of it.
func (p *Pool) sweepName(name string) (bool, error) {
	// A name beyond the range is of a pool that had a larger prefix.
	if index, _ := p.cfg.slotIndex(name); index < p.indexes.size {
		if !p.indexes.hold(index) {
			return false, nil
		}
		defer func() { p.indexes.put(index, time.Now()) }()
	}
	mine, err := p.isMine(name)
	if err != nil || !mine {
		return false, err
	}
	return true, dropName(name)
}

// isMine reads the owner mark: in the namespace, or in the file that a crash
// left before the namespace was mounted on it.
func (p *Pool) isMine(name string) (bool, error) {
	ns, _, err := openName(name)
	if fault.Is(err, fault.NotFound) {
		text, err := os.ReadFile(filepath.Join(netnsDir, name))
		if errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		return strings.HasPrefix(string(text), p.cfg.markPrefix()), err
	}
	if err != nil {
		return false, err
	}
	defer ns.Close()
	mark, err := markOf(p.host, ns)
	return strings.HasPrefix(mark, p.cfg.markPrefix()), err
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
	links, err := p.nl.LinkList()
	if err != nil {
		return nil, unreadable(err)
	}
	var removed []string
	var errs []error
	for _, l := range links {
		name := l.Attrs().Name
		index, ok := p.cfg.slotIndex(name)
		if !ok || !strings.HasPrefix(l.Attrs().Alias, p.cfg.markPrefix()) || keep(name) || !p.indexes.idle(index, time.Now()) {
			continue
		}
		switch err := p.nl.LinkDel(l); {
		case err == nil:
			removed = append(removed, name)
		case errors.Is(err, unix.ENODEV), errors.Is(err, unix.EINVAL):
			// Its namespace went meanwhile and took it along.
		default:
			errs = append(errs, err)
		}
	}
	return removed, errors.Join(errs...)
}
