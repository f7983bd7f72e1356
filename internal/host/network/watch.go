package network

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// lookAgain is how often the host's networks are looked at without a message of
// the kernel, which may have been lost, and lookSoon after a look that failed.
const (
	lookAgain = 30 * time.Second
	lookSoon  = time.Second
)

// subscribe opens a socket on which the kernel tells of every IPv4 address and
// route that comes or goes in the calling thread's namespace.
func subscribe() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	groups := uint32(1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV4_ROUTE-1))
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "address and route changes"), nil
}

// watch denies sandboxes each network that the host joins, until changes is
// closed.
func (p *Pool) watch(changes *os.File) {
	buf := make([]byte, 32<<10)
	wait := lookAgain
	for {
		_ = changes.SetReadDeadline(time.Now().Add(wait))
		n, err := changes.Read(buf)
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case err == nil && !p.mayMatter(buf[:n]):
			continue
		case err == nil, errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, unix.ENOBUFS):
		default:
			p.log.Warn("changes of the host's networks cannot be read; looking at them now and then", "error", err)
			select {
			case <-time.After(lookAgain):
			case <-p.life.Done():
				return
			}
		}
		wait = lookAgain
		if err := fault.Caught(p.refresh); err != nil {
			wait = lookSoon
			p.log.Error("sandboxes may reach a network that the host has joined; trying again", "error", err)
		}
	}
}

// mayMatter reports whether a message of the kernel names an address that is
// not denied in any case. The addresses and routes of slots are.
func (p *Pool) mayMatter(data []byte) bool {
	messages, err := syscall.ParseNetlinkMessage(data)
	if err != nil {
		return true
	}
	for _, m := range messages {
		attr, skip := uint16(unix.IFA_ADDRESS), unix.SizeofIfAddrmsg
		if m.Header.Type == unix.RTM_NEWROUTE || m.Header.Type == unix.RTM_DELROUTE {
			attr, skip = unix.RTA_DST, unix.SizeofRtMsg
		}
		if len(m.Data) < skip {
			return true
		}
		attrs, err := nl.ParseRouteAttr(m.Data[skip:])
		if err != nil {
			return true
		}
		for _, a := range attrs {
			addr, ok := netip.AddrFromSlice(a.Value)
			if a.Attr.Type == attr && ok && !p.policy.alwaysDenied(addr) {
				return true
			}
		}
	}
	return false
}

// refresh looks at the networks that the host is in and, where they have
// changed, at the rules of the host and of every slot.
func (p *Pool) refresh() error {
	view, err := look(p.nl, p.cfg)
	if err != nil {
		return err
	}
	before := p.joined.Load()
	now := p.policy.with(view.addrs)
	if slices.Equal(now.denied(), p.policy.with(*before).denied()) {
		return nil
	}
	p.log.Info("the host's networks have changed; sandboxes are denied them", "networks", list(view.addrs))
	// From here on slots are made with the new ones; see Pool.current.
	p.joined.Store(&view.addrs)
	err = inside(p.host, p.host, func() error { return renewDenied(hostTables(now)) })
	for _, s := range p.liveSlots() {
		err = errors.Join(err, s.deny(now))
	}
	if err != nil {
		p.joined.Store(before) // so that the next look finds a change again
	}
	return err
}

// deny changes the denied ranges of the slot's rules to those of now. A slot
// that has been released is success.
func (s *Slot) deny(now policy) error {
	err := inside(s.pool.host, s.ns, func() error { return renewDenied(sandboxTables(now, s.hostEnd, s.HostIP)) })
	return ignore(err, os.ErrClosed)
}

// liveSlots are the slots that have rules.
func (p *Pool) liveSlots() []*Slot {
	p.mu.Lock()
	defer p.mu.Unlock()
	var live []*Slot
	for _, s := range p.slots {
		if s.live {
			live = append(live, s)
		}
	}
	return live
}

// current marks the slot, whose rules were made with the networks of then, as
// one that refresh changes, and makes up for a refresh that it has missed.
func (p *Pool) current(s *Slot, then *[]netip.Prefix) error {
	p.mu.Lock()
	s.live = true
	p.mu.Unlock()
	if now := p.joined.Load(); now != then {
		return s.deny(p.policy.with(*now))
	}
	return nil
}
