package host

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// The guest of a running sandbox that has sent nothing for a while is asked for a
// sign of life, which is one small frame each way on a connection that is open
// already. Anything else that the guest sends counts as well, so that a busy
// sandbox is never probed. The longer nobody uses a sandbox, the less often it is
// probed, because probes are most of the CPU time of an idle one. Under software emulation a probe costs 2.6 ms of CPU
// time in the VM and 0.3 ms in the agent (BenchmarkIdleProbe of vmm/qemu).

const (
	// probeTick is the interval at which sandboxes that are due for a probe are found.
	probeTick = time.Second
	// maxProbes is how many probes run at once.
	maxProbes = 16
	// busyProbe is how long a guest with a command or transfer under way may be
	// silent before it is probed.
	busyProbe = 10 * time.Second
	// idleFactor bounds the time between two probes of a sandbox that nobody uses: a
	// multiple of Config.ProbeInterval. Until then it is the time without use.
	idleFactor = 8
	// cutFactor says after how many times GuestTimeout of silence the commands
	// and transfers of an unresponsive guest are cut.
	cutFactor = 6
)

// watchHealth probes guests until ctx ends.
func (m *Manager) watchHealth(ctx context.Context) {
	tick := time.NewTicker(min(probeTick, m.cfg.ProbeInterval))
	defer tick.Stop()
	slots := make(chan struct{}, maxProbes)
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		m.guarded("looking at guests", func() { m.startProbes(ctx, slots) })
	}
}

// startProbes begins the probes that are due, as far as there are free slots.
func (m *Manager) startProbes(ctx context.Context, slots chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, mc := range m.machines {
		p, due := mc.probeDue(time.Now())
		if !due {
			continue
		}
		select {
		case slots <- struct{}{}:
			m.running.Go(func() {
				defer func() { <-slots }()
				mc.probe(ctx, p) // which is guarded
			})
		default:
			mc.probeOver() // the next round has room
		}
	}
}

// probe is one question to a guest, with the state that has to be unchanged for
// its outcome to count.
type probe struct {
	ref   sandbox.Ref
	guest *guestclient.Client
	acts  uint64
	begun time.Time
	// renew: the guest has to be renewed, which serves as the question.
	renew bool
}

// probeDue begins a probe if it is time for one; then probeOver must follow.
func (m *machine) probeDue(now time.Time) (probe, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := &m.health
	guest := m.lentGuestLocked()
	if guest == nil || m.diskFull || h.acting || h.probing {
		return probe{}, false
	}
	heard := guest.LastHeard()
	if !h.since.IsZero() && !h.renewDue && heard.After(h.since) {
		h.since = time.Time{}
		m.tellHealthLocked()
	}
	if heard.After(h.answered) {
		h.used = heard
	}
	wait := probeWait(m.mgr.cfg.ProbeInterval, h.answered.Sub(h.used))
	switch {
	case !h.since.IsZero():
		wait, heard = m.mgr.cfg.GuestTimeout/2, h.probed
	case len(m.leases) > 0:
		wait = min(wait, busyProbe)
	}
	if now.Sub(heard) < wait || now.Sub(h.probed) < wait {
		return probe{}, false
	}
	h.probing, h.probed = true, now
	return probe{ref: m.view.Ref, guest: guest, acts: h.acts, begun: now, renew: h.renewDue}, true
}

// probeWait returns the time between two probes of a guest that answered a probe after it
// had not been used for unused.
func probeWait(interval, unused time.Duration) time.Duration {
	return min(max(interval, unused), idleFactor*interval)
}

func (m *machine) probeOver() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.health.probing = false
}

// probe asks the guest and records the outcome.
func (m *machine) probe(ctx context.Context, p probe) {
	defer m.probeOver()
	err := fault.Caught(func() error {
		if p.renew {
			// This waits for the end of an operation that is under way.
			return m.ask(ctx, request{op: journal.OpRenew, ref: p.ref})
		}
		ctx, cancel := context.WithTimeout(ctx, m.mgr.cfg.GuestTimeout)
		defer cancel()
		err := p.guest.Ping(ctx)
		m.probed(p, err)
		return err
	})
	if err != nil {
		m.log.DebugContext(ctx, "the guest did not answer a probe", "error", err)
	}
}

// probed records the outcome of p.
func (m *machine) probed(p probe, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Guest() != p.guest || m.health.acting || m.health.acts != p.acts || m.mgr.life.Err() != nil {
		return
	}
	if err == nil {
		m.health.since, m.health.answered = time.Time{}, p.guest.LastHeard()
		m.tellHealthLocked()
		return
	}
	if m.health.since.IsZero() {
		m.health.since = p.begun
	}
	m.tellHealthLocked()
	if time.Since(p.guest.LastHeard()) < cutFactor*m.mgr.cfg.GuestTimeout {
		return
	}
	for l := range m.leases {
		if l.begun.Before(p.begun) {
			l.cancel(errCut())
		}
	}
}
