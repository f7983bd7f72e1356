package network

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Sample is a sandbox network without a sandbox, with a stand-in for the guest.
type Sample struct {
	*StandIn
	remove func()
}

// Close removes the sample.
func (s *Sample) Close() {
	s.Unplug()
	s.remove()
}

// sampleID is the sandbox id of samples. The remains of one after a crash are swept by
// the agent.
const sampleID = "sample"

// TakeSample makes a network as the agent of cfg.Name makes it for a sandbox,
// under the same rules and device names, whether or not that agent runs. It
// changes nothing else on the host, and fails with fault.WrongState where it
// would have to: no agent runs, and IPv4 forwarding is off.
func TakeSample(ctx context.Context, cfg Config, log *slog.Logger) (*Sample, error) {
	p, closePool, err := openForSample(cfg, log)
	if err != nil {
		return nil, err
	}
	s, err := p.sampleSlot(ctx)
	if err != nil {
		closePool()
		return nil, err
	}
	remove := func() { s.Release(context.WithoutCancel(ctx)); closePool() }
	g, err := s.Plug()
	if err != nil {
		remove()
		return nil, err
	}
	return &Sample{g, remove}, nil
}

// openForSample opens the pool itself if no agent has it, and otherwise one
// that is beside the agent's.
func openForSample(cfg Config, log *slog.Logger) (*Pool, func(), error) {
	p, closePool, err := openBeside(cfg, log)
	if !fault.Is(err, fault.NotFound) {
		return p, closePool, err
	}
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err != nil || strings.TrimSpace(string(text)) != "1" {
		return nil, nil, fault.New(fault.WrongState, "no_forwarding", "IPv4 forwarding is off until the host agent starts")
	}
	if p, err = Open(cfg, log); err != nil {
		return nil, nil, err
	}
	return p, func() { _ = p.Close() }, nil
}

// sampleTries is how many slots are tried, from the end of the range, which the
// agent comes to last.
const sampleTries = 16

func (p *Pool) sampleSlot(ctx context.Context) (s *Slot, err error) {
	for i := range min(sampleTries, p.indexes.size) {
		index := p.indexes.size - 1 - i
		if !p.indexes.hold(index) {
			continue
		}
		if s, err = p.make(ctx, sampleID, index, false); err == nil {
			return s, nil
		}
	}
	return nil, errors.Join(fault.New(fault.NoCapacity, "no_network", "this host has no free sandbox network"), err)
}

// openBeside returns a pool that shares the range and the host's rules of one
// that is open elsewhere; only make and Release may be called. It fails with
// fault.NotFound if no pool has the name.
func openBeside(cfg Config, log *slog.Logger) (_ *Pool, _ func(), err error) {
	if cfg, err = cfg.withDefaults(); err != nil {
		return nil, nil, err
	}
	runtime.LockOSThread() // all that follows must see one network namespace
	defer runtime.UnlockOSThread()
	free, err := reserve(cfg.Name)
	if err == nil {
		return nil, nil, errors.Join(fault.New(fault.NotFound, "no_agent", "no host agent uses the network name %s", cfg.Name), free.Close())
	}
	if !errors.Is(err, unix.EADDRINUSE) {
		return nil, nil, unreadable(err)
	}
	prefix, err := rangeOf(cfg.Name)
	if err != nil {
		return nil, nil, err
	}
	p := &Pool{cfg: cfg, log: log, names: namesOf(cfg.Name), slots: map[string]*Slot{}, garbage: map[string]bool{}}
	p.indexes = newIndexes(slotCount(prefix))
	p.policy = policy{name: cfg.Name, prefix: prefix, nameservers: cfg.Nameservers, limits: cfg.Limits}
	if p.host, err = currentNamespace(); err != nil {
		return nil, nil, unreadable(err)
	}
	if p.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, nil, errors.Join(unreadable(err), p.host.Close())
	}
	p.life, p.end = context.WithCancel(context.Background())
	closePool := func() { p.end(); p.running.Wait(); p.nl.Close(); _ = p.host.Close() }
	view, err := look(p.nl, cfg)
	if err != nil {
		closePool()
		return nil, nil, err
	}
	p.joined.Store(&view.addrs)
	return p, closePool, nil
}

// rangeOf reads the range of a pool from its rules on the host: it is the
// source address of masqueraded packets.
func rangeOf(name string) (netip.Prefix, error) {
	conn, err := nftables.New()
	if err != nil {
		return netip.Prefix{}, unreadable(err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: name}
	rules, err := conn.GetRules(table, &nftables.Chain{Name: "postrouting", Table: table})
	if err != nil {
		return netip.Prefix{}, unreadable(err)
	}
	for _, r := range rules {
		var mask uint32
		for _, e := range r.Exprs {
			switch e := e.(type) {
			case *expr.Bitwise:
				if len(e.Mask) == 4 {
					mask = binary.BigEndian.Uint32(e.Mask)
				}
			case *expr.Cmp:
				if a, ok := netip.AddrFromSlice(e.Data); ok && mask != 0 {
					return netip.PrefixFrom(a, onesOf(mask)), nil
				}
			}
		}
	}
	return netip.Prefix{}, fault.New(fault.HostFailed, "no_rules", "the rules of the host agent %s are not there", name)
}

// onesOf is the length of a network mask.
func onesOf(mask uint32) (n int) {
	for ; mask&(1<<31) != 0; mask <<= 1 {
		n++
	}
	return n
}
