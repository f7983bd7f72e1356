package sim

import (
	"context"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// link is the connection of one process to one host, on which messages are lost,
// late or doubled.
type link struct {
	h *simHost
	p *process
}

// fate says whether the two messages of one call are delayed, lost or repeated.
type fate struct {
	there, back       time.Duration // how long they take
	lostThere         bool
	lostBack, doubled bool
}

func (l *link) fate(op, id string) fate {
	r := l.p.w.draw(l.p.name + " " + l.h.id + " call " + op + " " + l.p.w.nameOf(id))
	f := fate{there: between(r, 50*time.Microsecond, 2*time.Millisecond), back: between(r, 50*time.Microsecond, 2*time.Millisecond)}
	if l.p.w.quiet.Load() {
		return f
	}
	switch r.IntN(40) {
	case 0:
		f.lostThere = true
	case 1:
		f.lostBack = true
	case 2:
		f.there = between(r, time.Second, lateFor)
	case 3:
		f.back = between(r, time.Second, lateFor)
	case 4:
		f.doubled = true
	}
	return f
}

// answer is a host's answer to one call.
type answer[T any] struct {
	value T
	err   error
}

// call sends one command to the host and waits for the answer, as long as ctx
// and the process live. The host works on it whether or not anybody waits.
func call[T any](ctx context.Context, l *link, op, id string, work func() (T, error)) (T, error) {
	f, w := l.fate(op, id), l.p.w
	var zero T
	if l.p.dead.Err() != nil {
		return zero, lost()
	}
	if f.lostThere || f.lostBack || f.doubled || f.there > time.Second || f.back > time.Second {
		w.note("%s %s %s to %s: %+v", l.p.name, op, w.nameOf(id), l.h.id, f)
	}
	got := make(chan answer[T], 1)
	deliver := func(after time.Duration, reply bool) {
		time.Sleep(after)
		if l.h.isDown() {
			if reply {
				got <- answer[T]{err: unreachable()}
			}
			return
		}
		value, err := work()
		if reply {
			time.Sleep(f.back)
			got <- answer[T]{value, err}
		}
	}
	if !f.lostThere {
		w.work.Go(func() { deliver(f.there, !f.lostBack) })
	}
	if f.doubled {
		later := between(w.draw(l.p.name+" double "+op+" "+w.nameOf(id)), 0, lateFor)
		w.work.Go(func() { deliver(f.there+later, false) })
	}
	return await(ctx, l, w.draw(l.p.name+" "+l.h.id+" broken "+op+" "+w.nameOf(id)), f, got)
}

// await waits for an answer, for a connection that breaks, or for ctx.
func await[T any](ctx context.Context, l *link, r *rand.Rand, f fate, got chan answer[T]) (T, error) {
	var zero T
	var broken <-chan time.Time
	if f.lostThere || f.lostBack {
		timer := time.NewTimer(between(r, 10*time.Millisecond, 20*time.Second))
		defer timer.Stop()
		broken = timer.C
	}
	select {
	case a := <-got:
		if a.err != nil {
			return zero, a.err
		}
		return a.value, nil
	case <-broken:
		return zero, lost()
	case <-l.p.dead.Done():
		return zero, lost()
	case <-ctx.Done():
		return zero, control.MarkUnknown(fault.As(ctx.Err()))
	}
}

func (h *simHost) isDown() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.down
}

// Create implements control.Host.
func (l *link) Create(ctx context.Context, ref sandbox.Ref, spec sandbox.Spec, from sandbox.SnapshotID) (control.ObservedSandbox, error) {
	return call(ctx, l, "create", string(ref.ID), func() (control.ObservedSandbox, error) { return l.h.create(ref, spec, from) })
}

// Destroy implements control.Host.
func (l *link) Destroy(ctx context.Context, ref sandbox.Ref, _ sandbox.StopReason) error {
	_, err := call(ctx, l, "destroy", string(ref.ID), func() (struct{}, error) { return struct{}{}, l.h.destroy(ref) })
	return err
}

// Pause implements control.Host.
func (l *link) Pause(ctx context.Context, ref sandbox.Ref) (control.ObservedSandbox, error) {
	return call(ctx, l, "pause", string(ref.ID), func() (control.ObservedSandbox, error) { return l.h.pause(ref) })
}

// ForcePause implements control.Host.
func (l *link) ForcePause(ctx context.Context, ref sandbox.Ref) (control.ObservedSandbox, error) {
	return l.Pause(ctx, ref)
}

// PauseDisk implements control.Host.
func (l *link) PauseDisk(ctx context.Context, ref sandbox.Ref) (control.ObservedSandbox, error) {
	return l.Pause(ctx, ref)
}

// ResumeForUse implements control.Host.
func (l *link) ResumeForUse(ctx context.Context, ref sandbox.Ref) (control.ObservedSandbox, error) {
	return l.Resume(ctx, ref)
}

// Reboot implements control.Host.
func (l *link) Reboot(ctx context.Context, ref sandbox.Ref) (control.ObservedSandbox, error) {
	return l.Resume(ctx, ref)
}

// Resume implements control.Host.
func (l *link) Resume(ctx context.Context, ref sandbox.Ref) (control.ObservedSandbox, error) {
	return call(ctx, l, "resume", string(ref.ID), func() (control.ObservedSandbox, error) { return l.h.resume(ref) })
}

// SetEgress implements control.Host.
func (l *link) SetEgress(ctx context.Context, ref sandbox.Ref, limits sandbox.Egress) (control.ObservedSandbox, error) {
	return call(ctx, l, "egress", string(ref.ID), func() (control.ObservedSandbox, error) {
		return l.h.run(ref, command{
			op: "egress", lo: time.Millisecond, hi: 20 * time.Millisecond,
			begin: func(vm *simVM) error {
				if vm.observed.State == control.VMStopped {
					return stopped(vm)
				}
				return nil
			},
			finish: func(vm *simVM) error { vm.observed.Spec.Egress = limits; return nil },
		})
	})
}

// SetTimeouts implements control.Host.
func (l *link) SetTimeouts(ctx context.Context, ref sandbox.Ref, t control.TimeoutChange) (control.ObservedSandbox, error) {
	return call(ctx, l, "clocks", string(ref.ID), func() (control.ObservedSandbox, error) {
		return l.h.run(ref, command{
			op: "clocks", lo: time.Millisecond, hi: 20 * time.Millisecond,
			begin: func(vm *simVM) error {
				if vm.observed.State == control.VMStopped {
					return stopped(vm)
				}
				return nil
			},
			finish: func(vm *simVM) error {
				if t.Idle != nil {
					vm.observed.Spec.Timeout = *t.Idle
				}
				if t.Lifetime != nil {
					vm.observed.Spec.Lifetime = *t.Lifetime
				}
				if t.OnTimeout != nil {
					vm.observed.Spec.OnTimeout = *t.OnTimeout
				}
				return nil
			},
		})
	})
}

// CreateSnapshot implements control.Host.
func (l *link) CreateSnapshot(ctx context.Context, ref sandbox.Ref, id sandbox.SnapshotID, _ control.SnapshotKind) (control.ObservedSnapshot, error) {
	return call(ctx, l, "snapshot", string(ref.ID), func() (control.ObservedSnapshot, error) { return l.h.snapshot(ref, id) })
}

// ForceSnapshot implements control.Host.
func (l *link) ForceSnapshot(ctx context.Context, ref sandbox.Ref, id sandbox.SnapshotID, kind control.SnapshotKind) (control.ObservedSnapshot, error) {
	return l.CreateSnapshot(ctx, ref, id, kind)
}

// SnapshotDisk implements control.Host.
func (l *link) SnapshotDisk(ctx context.Context, ref sandbox.Ref, id sandbox.SnapshotID, kind control.SnapshotKind) (control.ObservedSnapshot, error) {
	return l.CreateSnapshot(ctx, ref, id, kind)
}

// DeleteSnapshot implements control.Host.
func (l *link) DeleteSnapshot(ctx context.Context, id sandbox.SnapshotID) error {
	_, err := call(ctx, l, "delete snapshot", string(id), func() (struct{}, error) { return struct{}{}, l.h.deleteSnapshot(id) })
	return err
}

// Snapshots implements control.Host.
func (l *link) Snapshots(ctx context.Context) ([]control.ObservedSnapshot, error) {
	return call(ctx, l, "list snapshots", "", func() ([]control.ObservedSnapshot, error) {
		l.h.mu.Lock()
		defer l.h.mu.Unlock()
		var out []control.ObservedSnapshot
		for _, v := range l.h.snaps {
			out = append(out, v)
		}
		slices.SortFunc(out, func(a, b control.ObservedSnapshot) int {
			return ordinal(l.p.w.nameOf(string(a.ID))) - ordinal(l.p.w.nameOf(string(b.ID)))
		})
		return out, nil
	})
}

// CollectGarbage implements control.Host.
func (l *link) CollectGarbage(context.Context, control.GarbageMode) ([]control.Garbage, error) {
	return nil, nil
}

// ImportImage implements control.Host.
func (l *link) ImportImage(context.Context, control.ImageSource, io.Reader, func(control.ImageProgress)) (control.HostImage, error) {
	return control.HostImage{}, unreachable()
}

// Exec implements control.Host.
func (l *link) Exec(ctx context.Context, ref sandbox.Ref, _ control.Exec, _ control.ExecSink) (control.ExecResult, error) {
	_, err := call(ctx, l, "exec", string(ref.ID), func() (control.ObservedSandbox, error) {
		l.h.mu.Lock()
		defer l.h.mu.Unlock()
		vm := l.h.vms[ref.ID]
		if vm == nil {
			return control.ObservedSandbox{}, fault.New(fault.NotFound, control.ReasonSandboxNotFound, "no such sandbox")
		}
		return control.ObservedSandbox{}, running(ref)(vm)
	})
	return control.ExecResult{}, err
}

// WriteFile implements control.Host.
func (l *link) WriteFile(context.Context, sandbox.Ref, control.WriteFile, io.Reader) (int64, error) {
	return 0, nil
}

// ReadFile implements control.Host.
func (l *link) ReadFile(context.Context, sandbox.Ref, control.ReadFile) (*control.File, error) {
	return nil, unreachable()
}

// DialPort implements control.Host.
func (l *link) DialPort(context.Context, sandbox.Ref, uint16, ...control.DialOption) (control.PortConn, error) {
	return nil, unreachable()
}

// CallFile implements control.Host.
func (l *link) CallFile(context.Context, sandbox.Ref, control.FileCall) (control.FilePage, error) {
	return control.FilePage{}, unreachable()
}

// WatchFiles implements control.Host.
func (l *link) WatchFiles(context.Context, sandbox.Ref, control.FileWatch, func(control.FileEvent) error) error {
	return unreachable()
}

// CallProcess implements control.Host.
func (l *link) CallProcess(context.Context, sandbox.Ref, control.ProcessCall) ([]control.Process, error) {
	return nil, unreachable()
}

// AttachProcess implements control.Host.
func (l *link) AttachProcess(context.Context, sandbox.Ref, control.ProcessAttach, control.ProcessSink) (control.Process, error) {
	return control.Process{}, unreachable()
}

// Sandbox implements control.Host.
func (l *link) Sandbox(ctx context.Context, id sandbox.ID) (*control.ObservedSandbox, error) {
	return call(ctx, l, "get", string(id), func() (*control.ObservedSandbox, error) {
		l.h.mu.Lock()
		defer l.h.mu.Unlock()
		if vm := l.h.vms[id]; vm != nil {
			v := l.h.observedOf(vm)
			return &v, nil
		}
		return nil, nil
	})
}

// Sandboxes implements control.Host.
func (l *link) Sandboxes(ctx context.Context) ([]control.ObservedSandbox, error) {
	return call(ctx, l, "list", "", func() ([]control.ObservedSandbox, error) {
		l.h.mu.Lock()
		defer l.h.mu.Unlock()
		var out []control.ObservedSandbox
		for _, vm := range l.h.ordered() {
			out = append(out, l.h.observedOf(vm))
		}
		return out, nil
	})
}

// Watch implements control.Host.
func (l *link) Watch(ctx context.Context, ready func(), on func(control.ObservedSandbox)) error {
	if sleep(ctx, l.fate("watch", "").there) != nil {
		return ctx.Err()
	}
	l.h.mu.Lock()
	if l.h.down {
		l.h.mu.Unlock()
		return unreachable()
	}
	ch := make(chan control.ObservedSandbox, 16)
	l.h.watchers[ch] = struct{}{}
	l.h.mu.Unlock()
	defer func() {
		l.h.mu.Lock()
		defer l.h.mu.Unlock()
		delete(l.h.watchers, ch)
	}()
	ready()
	for {
		select {
		case v, ok := <-ch:
			if !ok {
				return lost()
			}
			if sleep(ctx, l.fate("event", string(v.Ref.ID)).back) != nil {
				return ctx.Err()
			}
			on(v)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fleet is all hosts as one process sees them.
type fleet struct {
	p     *process
	links map[string]*link

	mu   sync.Mutex // protects the following
	last []control.HostInfo
}

func newFleet(p *process) *fleet {
	f := &fleet{p: p, links: make(map[string]*link)}
	for _, h := range p.w.hosts {
		f.links[h.id] = &link{h: h, p: p}
		f.last = append(f.last, control.HostInfo{ID: h.id})
	}
	return f
}

// Hosts implements control.Fleet.
func (f *fleet) Hosts() []control.HostInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.last)
}

// Host implements control.Fleet.
func (f *fleet) Host(id string) (control.Host, bool) {
	l, ok := f.links[id]
	return l, ok
}

// Refresh implements control.Fleet.
func (f *fleet) Refresh(ctx context.Context, id string) (control.HostInfo, error) {
	l := f.links[id]
	info, err := call(ctx, l, "info", "", func() (control.HostInfo, error) { return l.h.info(), nil })
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.last, func(h control.HostInfo) bool { return h.ID == id })
	if err != nil {
		f.last[i].Reachable = false
		return f.last[i], err
	}
	info.Reachable, info.SeenAt = true, time.Now()
	f.last[i] = info
	return info, nil
}
