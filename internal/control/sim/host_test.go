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
// other, continue when their caller has gone, and refuse old generations.
type simHost struct {
	w  *world
	id string

	mu    sync.Mutex // protects the following
	vms   map[sandbox.ID]*simVM
	snaps map[sandbox.SnapshotID]control.ObservedSnapshot
	// life is the run of the agent: work of an earlier one has no effect.
	life     int
	down     bool
	slow     bool
	clock    time.Duration // how far its clock is off
	watchers map[chan control.ObservedSandbox]struct{}
}

// simVM is one sandbox on the host. turn serialises the commands on it.
type simVM struct {
	observed control.ObservedSandbox
	turn     chan struct{}
	// waiting counts commands that run or wait.
	waiting int
	// next is the generation of a resume under way.
	next sandbox.Generation
}

func newSimHost(w *world, id string) *simHost {
	return &simHost{
		w: w, id: id, vms: make(map[sandbox.ID]*simVM), snaps: make(map[sandbox.SnapshotID]control.ObservedSnapshot),
		watchers: make(map[chan control.ObservedSandbox]struct{}),
	}
}

// microVMs are the runtimes of a host that offers emulated microVMs only.
var microVMs = []control.HostRuntime{{Runtime: sandbox.RuntimeMicroVM, Acceleration: "tcg", Isolation: sandbox.IsolationProcess}}

// info is a host with room for four sandboxes.
func (h *simHost) info() control.HostInfo {
	return control.HostInfo{
		ID: h.id, Runtimes: microVMs, VCPUs: 4, MemoryMB: 4 * 512,
		Limits:    sandbox.Limits{MaxVCPUs: 4, MinMemoryMB: 128, MaxMemoryMB: 4096},
		Templates: []string{"minimal"}, DiskRoomMB: 1 << 20, MemoryRoomMB: 1 << 30,
	}
}

// publish tells watchers of a change. The caller holds mu.
func (h *simHost) publish(vm *simVM) {
	h.w.note("%s %s is %s/%d %s", h.id, h.w.nameOf(string(vm.observed.Ref.ID)), vm.observed.State, vm.observed.Ref.Generation, vm.observed.StopReason)
	for ch := range h.watchers {
		select {
		case ch <- h.observedOf(vm):
		default: // it has fallen behind
			delete(h.watchers, ch)
			close(ch)
		}
	}
}

// observedOf returns the state of vm that the host reports. The caller holds mu.
func (h *simHost) observedOf(vm *simVM) control.ObservedSandbox {
	v := vm.observed
	v.Busy = vm.waiting > 0
	return v
}

// ordered returns the VMs in an order that is the same in each run of a history.
// The caller holds mu.
func (h *simHost) ordered() []*simVM {
	out := slices.Collect(maps.Values(h.vms))
	slices.SortFunc(out, func(a, b *simVM) int {
		return ordinal(h.w.nameOf(string(a.observed.Ref.ID))) - ordinal(h.w.nameOf(string(b.observed.Ref.ID)))
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
func (h *simHost) run(ref sandbox.Ref, c command) (control.ObservedSandbox, error) {
	r := h.w.draw(h.id + " " + c.op + " " + h.w.nameOf(string(ref.ID)))
	h.mu.Lock()
	life := h.life
	vm := h.vms[ref.ID]
	if vm == nil {
		h.mu.Unlock()
		return control.ObservedSandbox{}, fault.New(fault.NotFound, control.ReasonSandboxNotFound, "no such sandbox")
	}
	vm.waiting++
	h.mu.Unlock()
	vm.turn <- struct{}{}
	defer func() { <-vm.turn }()
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() { vm.waiting-- }()
	if h.life != life {
		return control.ObservedSandbox{}, errAborted
	}
	if h.vms[ref.ID] != vm {
		return control.ObservedSandbox{}, fault.New(fault.WrongState, "sandbox_stopped", "the sandbox has ended")
	}
	if err := c.begin(vm); err != nil {
		return h.observedOf(vm), err
	}
	work := between(r, c.lo, c.hi)
	if h.slow {
		work *= 8
	}
	h.mu.Unlock()
	time.Sleep(work)
	h.mu.Lock()
	if h.life != life {
		return control.ObservedSandbox{}, errAborted
	}
	if err := c.finish(vm); err != nil {
		return control.ObservedSandbox{}, err
	}
	return h.observedOf(vm), nil
}

func stopped(vm *simVM) error {
	return fault.New(fault.WrongState, "sandbox_stopped", "the sandbox has ended (%s)", vm.observed.StopReason)
}

func stale(vm *simVM) error {
	return fault.New(fault.Stale, "stale_generation", "the host knows generation %d", vm.observed.Ref.Generation)
}

// set changes the state of vm. The caller holds mu.
func (h *simHost) set(vm *simVM, state control.VMState) {
	vm.observed.State = state
	h.publish(vm)
}

// end ends a VM for reason. The caller holds mu.
func (h *simHost) end(vm *simVM, reason sandbox.StopReason) {
	vm.observed.StopReason = reason
	h.set(vm, control.VMStopped)
}

func (h *simHost) create(ref sandbox.Ref, spec sandbox.Spec, from sandbox.SnapshotID) (control.ObservedSandbox, error) {
	h.mu.Lock()
	vm := h.vms[ref.ID]
	switch {
	case vm == nil:
		vm = &simVM{turn: make(chan struct{}, 1), observed: control.ObservedSandbox{Ref: ref, Spec: spec, State: control.VMStarting, SnapshotID: from}}
		h.vms[ref.ID] = vm
		h.publish(vm)
	case ref.Generation < vm.observed.Ref.Generation:
		defer h.mu.Unlock()
		return control.ObservedSandbox{}, stale(vm)
	case ref != vm.observed.Ref:
		defer h.mu.Unlock()
		return control.ObservedSandbox{}, fault.New(fault.Exists, "exists", "it exists already")
	}
	h.mu.Unlock()
	fails := !h.w.quiet.Load() && h.w.draw("boot "+h.w.nameOf(string(ref.ID))).IntN(12) == 0
	return h.run(ref, command{
		op: "create", lo: 200 * time.Millisecond, hi: 6 * time.Second,
		begin: func(vm *simVM) error {
			if vm.observed.State == control.VMStopped {
				return stopped(vm)
			}
			return nil
		},
		finish: func(vm *simVM) error {
			if vm.observed.State != control.VMStarting {
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
	vm.observed.Runtime = control.RuntimeInfo{GuestIP: "10.0.0.2", HostIP: "10.11.0.1", StartedAt: now}
	if vm.observed.Spec.Lifetime > 0 {
		vm.observed.Runtime.LifetimeEndsAt = now.Add(vm.observed.Spec.Lifetime)
	}
	h.set(vm, control.VMRunning)
}

// running is the begin of a command that needs a VM that runs in ref's generation.
func running(ref sandbox.Ref) func(*simVM) error {
	return func(vm *simVM) error {
		switch {
		case ref.Generation != vm.observed.Ref.Generation:
			return stale(vm)
		case vm.observed.State == control.VMStopped:
			return stopped(vm)
		case vm.observed.State != control.VMRunning:
			return fault.New(fault.WrongState, control.ReasonNotRunning, "the sandbox is %s", vm.observed.State)
		}
		return nil
	}
}

func (h *simHost) pause(ref sandbox.Ref) (control.ObservedSandbox, error) {
	return h.run(ref, command{
		op: "pause", lo: 100 * time.Millisecond, hi: 8 * time.Second,
		begin: func(vm *simVM) error {
			if vm.observed.State == control.VMPaused && vm.observed.Ref == ref {
				return nil
			}
			if err := running(ref)(vm); err != nil {
				return err
			}
			h.set(vm, control.VMPausing)
			return nil
		},
		finish: func(vm *simVM) error {
			if vm.observed.State == control.VMStopped {
				return stopped(vm)
			}
			vm.observed.Runtime.LifetimeEndsAt = time.Time{}
			h.set(vm, control.VMPaused)
			return nil
		},
	})
}

func (h *simHost) resume(ref sandbox.Ref) (control.ObservedSandbox, error) {
	joined := false
	return h.run(ref, command{
		op: "resume", lo: 50 * time.Millisecond, hi: 4 * time.Second,
		begin: func(vm *simVM) error {
			switch {
			case vm.observed.State == control.VMStopped:
				return stopped(vm)
			case vm.observed.State == control.VMRunning && vm.observed.Ref == ref:
				joined = true
				return nil
			case vm.observed.State == control.VMRunning && ref.Generation < vm.observed.Ref.Generation,
				vm.observed.State == control.VMPaused && ref.Generation <= vm.observed.Ref.Generation:
				return stale(vm)
			case vm.observed.State != control.VMPaused:
				return fault.New(fault.WrongState, "sandbox_not_paused", "the sandbox is %s", vm.observed.State)
			}
			vm.next = ref.Generation
			h.set(vm, control.VMResuming)
			return nil
		},
		finish: func(vm *simVM) error {
			if vm.observed.State == control.VMStopped {
				return stopped(vm)
			}
			if !joined {
				vm.observed.Ref = ref
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
			if ref.Generation < vm.observed.Ref.Generation {
				return stale(vm)
			}
			if vm.observed.State != control.VMStopped {
				h.set(vm, control.VMStopping)
			}
			return nil
		},
		finish: func(vm *simVM) error {
			h.w.note("%s forgets %s", h.id, h.w.nameOf(string(ref.ID)))
			delete(h.vms, ref.ID)
			if vm.observed.State != control.VMStopped {
				vm.observed.StopReason = sandbox.ReasonDestroyed
				h.set(vm, control.VMStopped)
			}
			return nil
		},
	})
	if fault.ReasonOf(err) == control.ReasonSandboxNotFound {
		return nil
	}
	return err
}

func (h *simHost) snapshot(ref sandbox.Ref, id sandbox.SnapshotID) (control.ObservedSnapshot, error) {
	var out control.ObservedSnapshot
	_, err := h.run(ref, command{
		op: "snapshot", lo: 100 * time.Millisecond, hi: 5 * time.Second,
		begin: func(vm *simVM) error {
			if vm.observed.State == control.VMPaused && vm.observed.Ref.Generation <= ref.Generation {
				return nil
			}
			return running(ref)(vm)
		},
		finish: func(vm *simVM) error {
			if vm.observed.State == control.VMStopped {
				return stopped(vm)
			}
			out = control.ObservedSnapshot{ID: id, Of: ref, Spec: vm.observed.Spec, Bytes: 4096}
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

// restart ends the agent and starts it again after a time. Its VMs continue. Operations
// under way are rolled back or forward, as the journal has them.
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

// recoverVM recovers one VM as the agent does when it opens its journal. The
// caller holds mu.
func (h *simHost) recoverVM(vm *simVM) {
	forward := h.w.draw("recover "+h.w.nameOf(string(vm.observed.Ref.ID))).IntN(2) == 0
	switch vm.observed.State {
	case control.VMStarting:
		h.end(vm, sandbox.ReasonBootFailed)
	case control.VMPausing:
		if forward {
			h.set(vm, control.VMPaused)
		} else {
			h.set(vm, control.VMRunning)
		}
	case control.VMResuming:
		if forward {
			vm.observed.Ref.Generation = vm.next
			h.started(vm)
		} else {
			h.set(vm, control.VMPaused)
		}
	case control.VMStopping:
		delete(h.vms, vm.observed.Ref.ID)
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
	if vm.observed.State != control.VMRunning {
		return false
	}
	h.w.mayEnd(vm.observed.Ref.ID)
	h.end(vm, reason)
	return true
}

// pauseByItself pauses one VM without a command, as a clock or a drain does.
func (h *simHost) pauseByItself(n int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.ordered()
	if len(all) == 0 || all[n%len(all)].observed.State != control.VMRunning {
		return false
	}
	vm := all[n%len(all)]
	vm.observed.Runtime.LifetimeEndsAt = time.Time{}
	h.set(vm, control.VMPaused)
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
