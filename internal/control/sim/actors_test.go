package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// client uses the API until the faults end. It takes an error for an outcome that
// it does not know.
func (w *world) client(n int) {
	key := fmt.Sprintf("client %d", n)
	for {
		r := w.draw(key)
		time.Sleep(between(r, 10*time.Millisecond, 20*time.Second))
		if w.quiet.Load() {
			return
		}
		p := w.any(r)
		if p == nil {
			continue
		}
		patience := 5 * time.Minute
		if r.IntN(10) == 0 {
			patience = between(r, time.Millisecond, 5*time.Second) // it hangs up
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		w.act(ctx, p, key, r)
		cancel()
	}
}

// target returns one of the sandboxes that had a row, the newer the likelier.
func (w *world) target(r *rand.Rand) sandbox.ID {
	ids := w.ids()
	if len(ids) == 0 {
		return ""
	}
	recent := min(len(ids), 4)
	return ids[len(ids)-1-r.IntN(recent)]
}

// act does one thing.
func (w *world) act(ctx context.Context, p *process, key string, r *rand.Rand) {
	id := w.target(r)
	op, err := "create", error(nil)
	switch k := r.IntN(21); {
	case id == "" || k < 5:
		err = w.create(ctx, p, r)
	case k < 9:
		op = "pause"
		_, err = p.Pause(ctx, id)
	case k < 12:
		op = "resume"
		_, err = p.Resume(ctx, id)
	case k < 14:
		op = "exec"
		_, err = p.Exec(ctx, id, control.Exec{Cmd: "true"}, nil)
	case k < 15:
		op = "fork"
		err = w.fork(ctx, p, id, r)
	case k < 16:
		op = "snapshot"
		err = w.takeSnapshot(ctx, p, id)
	case k < 17:
		op = "delete snapshot"
		err = w.deleteSnapshot(ctx, p, r)
	case k < 18:
		op = "clocks"
		lifetime := time.Duration(1+r.IntN(3)) * time.Hour
		_, err = p.SetTimeouts(ctx, id, control.ClockRequest{Lifetime: &lifetime})
	case k < 19:
		op = "egress"
		limits := sandbox.Egress{Deny: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(r.IntN(3))}), 32)}}
		_, err = p.SetEgress(ctx, id, limits)
	default:
		op = "destroy"
		err = w.destroy(ctx, p, id)
	}
	result := "ok"
	if err != nil {
		result = fault.ReasonOf(err)
	}
	w.note("%s: %s %s by %s: %s", key, op, w.nameOf(string(id)), p.name, result)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[op+" "+map[bool]string{true: "ok", false: "failed"}[err == nil]]++
}

func (w *world) create(ctx context.Context, p *process, r *rand.Rand) error {
	autoResume := r.IntN(2) == 0
	n := control.NewSandbox{Spec: control.SpecRequest{Clocks: control.ClockRequest{AutoResume: &autoResume}}}
	w.mu.Lock()
	if len(w.snaps) > 0 && r.IntN(3) == 0 {
		n.SnapshotID = w.snaps[r.IntN(len(w.snaps))]
	}
	w.mu.Unlock()
	row, err := p.Create(ctx, n)
	if err == nil {
		w.mark(row.ID, func(rec *record) { rec.acknowledged = true })
	}
	return err
}

func (w *world) fork(ctx context.Context, p *process, id sandbox.ID, r *rand.Rand) error {
	out, err := p.Fork(ctx, id, control.Fork{Count: 1 + r.IntN(2)})
	for _, row := range out.Sandboxes {
		w.mark(row.ID, func(rec *record) { rec.acknowledged = true })
	}
	return err
}

func (w *world) destroy(ctx context.Context, p *process, id sandbox.ID) error {
	w.mark(id, func(rec *record) { rec.destroying = true })
	err := p.Destroy(ctx, id)
	if err == nil {
		w.mark(id, func(rec *record) { rec.destroyed = true })
	}
	return err
}

func (w *world) takeSnapshot(ctx context.Context, p *process, id sandbox.ID) error {
	snap, err := p.CreateSnapshot(ctx, id, control.NewSnapshot{})
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.snaps = append(w.snaps, snap.ID)
	}
	return err
}

func (w *world) deleteSnapshot(ctx context.Context, p *process, r *rand.Rand) error {
	w.mu.Lock()
	if len(w.snaps) == 0 {
		w.mu.Unlock()
		return nil
	}
	id := w.snaps[r.IntN(len(w.snaps))]
	w.mu.Unlock()
	return p.DeleteSnapshot(ctx, id)
}

// faults makes faults happen until their time is over.
func (w *world) faults() {
	end := w.start.Add(faultsFor)
	for {
		r := w.draw("fault")
		wait := between(r, time.Second, 25*time.Second)
		if time.Now().Add(wait).After(end) {
			time.Sleep(time.Until(end))
			return
		}
		time.Sleep(wait)
		w.faultOnce(r)
	}
}

// faultOnce makes one fault happen. A lasting fault overlaps with the next ones.
func (w *world) faultOnce(r *rand.Rand) {
	h := w.hosts[r.IntN(len(w.hosts))]
	s := w.servers[r.IntN(len(w.servers))]
	lasts := between(r, 100*time.Millisecond, 15*time.Second)
	n := r.IntN(1 << 20)
	switch r.IntN(10) {
	case 0:
		w.work.Go(func() { h.restart(lasts) })
	case 1, 2:
		s.stopProcess()
		time.Sleep(lasts)
		s.startProcess()
	case 3:
		w.crash(n % (w.store.Relaxed() + 1))
		w.dbAway(lasts / 2)
	case 4:
		w.dbAway(lasts)
	case 5:
		h.kill(n, []sandbox.StopReason{sandbox.ReasonGuestExit, sandbox.ReasonOOM, sandbox.ReasonVMMCrash}[n%3])
	case 6:
		h.pauseByItself(n)
	case 7:
		step := between(r, -time.Hour, time.Hour)
		w.note("the database's clock steps by %s", step)
		w.dbClock.Add(int64(step))
	case 8:
		h.step(between(r, -time.Hour, time.Hour))
	case 9:
		w.work.Go(func() { h.slowFor(lasts) })
	}
}

func (w *world) dbAway(d time.Duration) {
	w.note("the database is away for %s", d)
	w.away.Store(int64(time.Since(w.start) + d))
}

func (h *simHost) step(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.w.note("the clock of %s steps by %s", h.id, d)
	h.clock += d
}

func (h *simHost) slowFor(d time.Duration) {
	set := func(slow bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.slow = slow
	}
	h.w.note("%s is slow for %s", h.id, d)
	set(true)
	time.Sleep(d)
	set(false)
}
