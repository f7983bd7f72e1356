package sim

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// simHost is a host agent with its journal. It keeps to the contract of
// control.Host as the real one does: commands on one sandbox run one after the
// other, go on when their caller has gone, and refuse old generations.
type simHost struct {
	w  *world
	id string

	mu    sync.Mutex // protects the following
	vms   map[sandbox.ID]*simVM
	snaps map[sandbox.SnapshotID]control.SnapshotView
	// life is the run of the agent: work of an earlier one has no effect.
	life     int
	down     bool
	slow     bool
	clock    time.Duration // how far its clock is off
	watchers map[chan control.View]struct{}
}

// simVM is one sandbox on the host. turn serialises the commands on it.
type simVM struct {
	view control.View
	turn chan struct{}
	// waiting counts commands that run or wait.
	waiting int
	// next is the generation of a resume under way.
	next sandbox.Generation
}

func newSimHost(w *world, id string) *simHost {
	return &simHost{
		w: w, id: id, vms: make(map[sandbox.ID]*simVM), snaps: make(map[sandbox.SnapshotID]control.SnapshotView),
		watchers: make(map[chan control.View]struct{}),
	}
}

// info is a host with room for four sandboxes.
func (h *simHost) info() control.HostInfo {
	return control.HostInfo{
		ID: h.id, Acceleration: "tcg", Isolation: sandbox.IsolationProcess, VCPUs: 4, MemoryMB: 4 * 512,
		Limits:    sandbox.Limits{MaxVCPUs: 4, MinMemoryMB: 128, MaxMemoryMB: 4096},
		Templates: []string{"minimal"}, DiskRoomMB: 1 << 20,
	}
}

// publish tells watchers of a change. The caller holds mu.
func (h *simHost) publish(vm *simVM) {
	h.w.note("%s %s is %s/%d %s", h.id, h.w.nameOf(string(vm.view.Ref.ID)), vm.view.State, vm.view.Ref.Generation, vm.view.StopReason)
	for ch := range h.watchers {
		select {
		case ch <- h.viewOf(vm):
		default: // it has fallen behind
			delete(h.watchers, ch)
			close(ch)
		}
	}
}

// viewOf returns what the host says of vm. The caller holds mu.
func (h *simHost) viewOf(vm *simVM) control.View {
	v := vm.view
	v.Busy = vm.waiting > 0
	return v
}

// ordered returns the VMs in an order that is the same in each run of a history.
// The caller holds mu.
func (h *simHost) ordered() []*simVM {
	out := slices.Collect(maps.Values(h.vms))
	slices.SortFunc(out, func(a, b *simVM) int {
		return ordinal(h.w.nameOf(string(a.view.Ref.ID))) - ordinal(h.w.nameOf(string(b.view.Ref.ID)))
	})
	return out
}

func ordinal(name string) (n int) {
	_, _ = fmt.Sscanf(name, "#%d", &n)
	return n
}

// command is work on one sandbox: begin is called when it is its turn, and finish
// when the work is done, both with mu held.
type command struct {
	op            string
	lo, hi        time.Duration
	begin, finish func(vm *simVM) error
}

// errAborted is the answer of an agent that stopped while it worked.
var errAborted = control.MarkUnknown(fault.New(fault.HostFailed, "host_stopping", "the host agent is stopping"))

// run executes a command to its end, whether or not anybody waits for it.
func (h *simHost) run(ref sandbox.Ref, c command) (control.View, error) {
	r := h.w.draw(h.id + " " + c.op + " " + h.w.nameOf(string(ref.ID)))
	h.mu.Lock()
	life := h.life
	vm := h.vms[ref.ID]
	if vm == nil {
		h.mu.Unlock()
		return control.View{}, fault.New(fault.NotFound, control.ReasonSandboxNotFound, "no such sandbox")
	}
	vm.waiting++
	h.mu.Unlock()
	vm.turn <- struct{}{}
	defer func() { <-vm.turn }()
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() { vm.waiting-- }()
	if h.life != life {
		return control.View{}, errAborted
	}
	if h.vms[ref.ID] != vm {
		return control.View{}, fault.New(fault.WrongState, "sandbox_stopped", "the sandbox has ended")
	}
	if err := c.begin(vm); err != nil {
		return h.viewOf(vm), err
	}
	work := between(r, c.lo, c.hi)
	if h.slow {
		work *= 8
	}
	h.mu.Unlock()
	time.Sleep(work)
	h.mu.Lock()
	if h.life != life {
		return control.View{}, errAborted
	}
	if err := c.finish(vm); err != nil {
		return control.View{}, err
	}
	return h.viewOf(vm), nil
}

func stopped(vm *simVM) error {
	return fault.New(fault.WrongState, "sandbox_stopped", "the sandbox has ended (%s)", vm.view.StopReason)
}

func stale(vm *simVM) error {
	return fault.New(fault.Stale, "stale_generation", "the host knows generation %d", vm.view.Ref.Generation)
}

// set changes the state of vm. The caller holds mu.
func (h *simHost) set(vm *simVM, state control.ViewState) {
	vm.view.State = state
	h.publish(vm)
}

// end ends a VM for reason. The caller holds mu.
func (h *simHost) end(vm *simVM, reason sandbox.StopReason) {
	vm.view.StopReason = reason
	h.set(vm, control.ViewStopped)
}

func (h *simHost) create(ref sandbox.Ref, spec sandbox.Spec, from sandbox.SnapshotID) (control.View, error) {
	h.mu.Lock()
	vm := h.vms[ref.ID]
	switch {
	case vm == nil:
		vm = &simVM{turn: make(chan struct{}, 1), view: control.View{Ref: ref, Spec: spec, State: control.ViewStarting, SnapshotID: from}}
		h.vms[ref.ID] = vm
		h.publish(vm)
	case ref.Generation < vm.view.Ref.Generation:
		defer h.mu.Unlock()
		return control.View{}, stale(vm)
	case ref != vm.view.Ref:
		defer h.mu.Unlock()
		return control.View{}, fault.New(fault.Exists, "exists", "it exists already")
	}
	h.mu.Unlock()
	fails := !h.w.quiet.Load() && h.w.draw("boot "+h.w.nameOf(string(ref.ID))).IntN(12) == 0
	return h.run(ref, command{
		op: "create", lo: 200 * time.Millisecond, hi: 6 * time.Second,
		begin: func(vm *simVM) error {
			if vm.view.State == control.ViewStopped {
				return stopped(vm)
			}
			return nil
		},
		finish: func(vm *simVM) error {
			if vm.view.State != control.ViewStarting {
				return nil // a second call that joined the first
			}
			if _, ok := h.snaps[from]; from != "" && !ok {
				h.end(vm, sandbox.ReasonBootFailed)
				return fault.New(fault.NotFound, control.ReasonSnapshotNotFound, "no such snapshot")
			}
			if fails {
				h.end(vm, sandbox.ReasonBootFailed)
				return fault.New(fault.HostFailed, "boot_failed", "the VM did not start")
			}
			h.started(vm)
			return nil
		},
	})
}

// started makes vm run. The caller holds mu.
func (h *simHost) started(vm *simVM) {
	now := time.Now().Add(h.clock)
	vm.view.Facts = control.Facts{GuestIP: "10.0.0.2", HostIP: "10.11.0.1", StartedAt: now}
	if vm.view.Spec.Lifetime > 0 {
		vm.view.Facts.LifetimeEndsAt = now.Add(vm.view.Spec.Lifetime)
	}
	h.set(vm, control.ViewRunning)
}

// running is the begin of a command that needs a VM that runs in ref's generation.
func running(ref sandbox.Ref) func(*simVM) error {
	return func(vm *simVM) error {
		switch {
		case ref.Generation != vm.view.Ref.Generation:
			return stale(vm)
		case vm.view.State == control.ViewStopped:
			return stopped(vm)
		case vm.view.State != control.ViewRunning:
			return fault.New(fault.WrongState, control.ReasonNotRunning, "the sandbox is %s", vm.view.State)
		}
		return nil
	}
}

func (h *simHost) pause(ref sandbox.Ref) (control.View, error) {
	return h.run(ref, command{
		op: "pause", lo: 100 * time.Millisecond, hi: 8 * time.Second,
		begin: func(vm *simVM) error {
			if vm.view.State == control.ViewPaused && vm.view.Ref == ref {
				return nil
			}
			if err := running(ref)(vm); err != nil {
				return err
			}
			h.set(vm, control.ViewPausing)
			return nil
		},
		finish: func(vm *simVM) error {
			if vm.view.State == control.ViewStopped {
				return stopped(vm)
			}
			vm.view.Facts.LifetimeEndsAt = time.Time{}
			h.set(vm, control.ViewPaused)
			return nil
		},
	})
}

func (h *simHost) resume(ref sandbox.Ref) (control.View, error) {
	joined := false
	return h.run(ref, command{
		op: "resume", lo: 50 * time.Millisecond, hi: 4 * time.Second,
		begin: func(vm *simVM) error {
			switch {
			case vm.view.State == control.ViewStopped:
				return stopped(vm)
			case vm.view.State == control.ViewRunning && vm.view.Ref == ref:
				joined = true
				return nil
			case vm.view.State == control.ViewRunning && ref.Generation < vm.view.Ref.Generation,
				vm.view.State == control.ViewPaused && ref.Generation <= vm.view.Ref.Generation:
				return stale(vm)
			case vm.view.State != control.ViewPaused:
				return fault.New(fault.WrongState, "sandbox_not_paused", "the sandbox is %s", vm.view.State)
			}
			vm.next = ref.Generation
			h.set(vm, control.ViewResuming)
			return nil
		},
		finish: func(vm *simVM) error {
			if vm.view.State == control.ViewStopped {
				return stopped(vm)
			}
			if !joined {
				vm.view.Ref = ref
				h.started(vm)
			}
			return nil
		},
	})
}

func (h *simHost) destroy(ref sandbox.Ref) error {
	_, err := h.run(ref, command{
		op: "destroy", lo: 20 * time.Millisecond, hi: 2 * time.Second,
		begin: func(vm *simVM) error {
			if ref.Generation < vm.view.Ref.Generation {
				return stale(vm)
			}
			if vm.view.State != control.ViewStopped {
				h.set(vm, control.ViewStopping)
			}
			return nil
		},
		finish: func(vm *simVM) error {
			h.w.note("%s forgets %s", h.id, h.w.nameOf(string(ref.ID)))
			delete(h.vms, ref.ID)
			if vm.view.State != control.ViewStopped {
				vm.view.StopReason = sandbox.ReasonDestroyed
				h.set(vm, control.ViewStopped)
			}
			return nil
		},
	})
	if fault.ReasonOf(err) == control.ReasonSandboxNotFound {
		return nil
	}
	return err
}

func (h *simHost) snapshot(ref sandbox.Ref, id sandbox.SnapshotID) (control.SnapshotView, error) {
	var out control.SnapshotView
	_, err := h.run(ref, command{
		op: "snapshot", lo: 100 * time.Millisecond, hi: 5 * time.Second,
		begin: func(vm *simVM) error {
			if vm.view.State == control.ViewPaused && vm.view.Ref.Generation <= ref.Generation {
				return nil
			}
			return running(ref)(vm)
		},
		finish: func(vm *simVM) error {
			if vm.view.State == control.ViewStopped {
				return stopped(vm)
			}
			out = control.SnapshotView{ID: id, Of: ref, Spec: vm.view.Spec, Bytes: 4096}
			h.snaps[id] = out
			h.w.note("%s has snapshot %s", h.id, h.w.nameOf(string(id)))
			return nil
		},
	})
	return out, err
}

func (h *simHost) deleteSnapshot(id sandbox.SnapshotID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.snaps, id)
	return nil
}

// restart ends the agent and starts it again after a time. Its VMs go on. What
// was under way is rolled back or forward, as the journal has it.
func (h *simHost) restart(away time.Duration) {
	h.mu.Lock()
	h.life++
	h.down = true
	h.w.note("%s is down for %s", h.id, away)
	for ch := range h.watchers {
		delete(h.watchers, ch)
		close(ch)
	}
	for _, vm := range h.ordered() {
		h.recoverVM(vm)
	}
	h.mu.Unlock()
	time.Sleep(away)
	h.mu.Lock()
	h.down = false
	h.w.note("%s is up", h.id)
	h.mu.Unlock()
}

// recoverVM does for one VM what the agent does when it opens its journal. The
// caller holds mu.
func (h *simHost) recoverVM(vm *simVM) {
	forward := h.w.draw("recover "+h.w.nameOf(string(vm.view.Ref.ID))).IntN(2) == 0
	switch vm.view.State {
	case control.ViewStarting:
		h.end(vm, sandbox.ReasonBootFailed)
	case control.ViewPausing:
		if forward {
			h.set(vm, control.ViewPaused)
		} else {
			h.set(vm, control.ViewRunning)
		}
	case control.ViewResuming:
		if forward {
			vm.view.Ref.Generation = vm.next
			h.started(vm)
		} else {
			h.set(vm, control.ViewPaused)
		}
	case control.ViewStopping:
		delete(h.vms, vm.view.Ref.ID)
	}
}

// kill ends one VM from outside, if there is one, and tells the model. It
// reports whether it did.
func (h *simHost) kill(n int, reason sandbox.StopReason) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.ordered()
	if len(all) == 0 {
		return false
	}
	vm := all[n%len(all)]
	if vm.view.State != control.ViewRunning {
		return false
	}
	h.w.mayEnd(vm.view.Ref.ID)
	h.end(vm, reason)
	return true
}

// pauseByItself pauses one VM without a command, as a clock or a drain does.
func (h *simHost) pauseByItself(n int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.ordered()
	if len(all) == 0 || all[n%len(all)].view.State != control.ViewRunning {
		return false
	}
	vm := all[n%len(all)]
	vm.view.Facts.LifetimeEndsAt = time.Time{}
	h.set(vm, control.ViewPaused)
	return true
}

// unreachable is the error of a call that could not connect: it did nothing.
func unreachable() error {
	return fault.New(fault.HostFailed, "host_unreachable", "connection refused")
}

// lost is an answer that does not arrive.
func lost() error {
	return control.MarkUnknown(fault.New(fault.HostFailed, "unreachable", "connection reset"))
}
