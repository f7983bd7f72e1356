package control_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// hook runs in a command of fakeHost. An error is the host's answer.
type hook func(ctx context.Context, ref sandbox.Ref) error

// fakeHost is a host agent in memory. It keeps to the contract of control.Host
// and can be told to fail, hang, lose answers or go down.
type fakeHost struct {
	id string

	mu   sync.Mutex // protects the following
	vms  map[sandbox.ID]*control.ObservedSandbox
	down bool
	// before runs instead of nothing before a command acts, after between the
	// act and the answer. Keys are "create", "destroy", "pause", "resume", "exec".
	before, after map[string]hook
	watchers      map[chan control.ObservedSandbox]struct{}
	info          control.HostInfo
	snaps         map[sandbox.SnapshotID]*control.ObservedSnapshot
	// said are the changes of clocks that it was told.
	said []control.TimeoutChange
	// eager takes the beginning of an upload before it looks at the state.
	eager bool
	// unlimited ignores the limits of outgoing traffic, as an agent of an earlier version.
	unlimited bool
	// keepsMemory ignores that pauses and snapshots are to be without memory, as such an agent
	// too.
	keepsMemory bool
	// reboots counts the calls of Reboot.
	reboots int
	// count is how often each command acted.
	count map[string]int
}

func newFakeHost(id string) *fakeHost {
	return &fakeHost{
		id: id, vms: make(map[sandbox.ID]*control.ObservedSandbox),
		before: make(map[string]hook), after: make(map[string]hook),
		watchers: make(map[chan control.ObservedSandbox]struct{}),
		snaps:    make(map[sandbox.SnapshotID]*control.ObservedSnapshot), count: make(map[string]int),
		info: control.HostInfo{
			ID: id, Runtimes: microVMs, VCPUs: 4, MemoryMB: 8 * 512,
			Limits:    sandbox.Limits{MaxVCPUs: 4, MinMemoryMB: 128, MaxMemoryMB: 4096},
			Templates: []string{"minimal"}, DiskRoomMB: 1 << 20, MemoryRoomMB: 1 << 30,
		},
	}
}

// microVMs are the runtimes of a host that offers emulated microVMs only.
var microVMs = []control.HostRuntime{{Runtime: sandbox.RuntimeMicroVM, Acceleration: "tcg", Isolation: sandbox.IsolationProcess}}

var errDown = fault.New(fault.HostFailed, "host_unreachable", "connection refused")

// lost is an answer that did not arrive.
func lost(context.Context, sandbox.Ref) error {
	return control.MarkUnknown(fault.New(fault.HostFailed, "unreachable", "connection reset"))
}

// refuse returns a hook that answers err.
func refuse(err error) hook { return func(context.Context, sandbox.Ref) error { return err } }

// gate is a hook that says that it was entered and waits to be let on.
type gate struct{ entered, open chan struct{} }

func newGate() gate { return gate{make(chan struct{}), make(chan struct{})} }

func (g gate) wait(ctx context.Context, _ sandbox.Ref) error {
	close(g.entered)
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return control.MarkUnknown(fault.As(ctx.Err()))
	}
}

func (h *fakeHost) setDown(down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
	for ch := range h.watchers {
		if down {
			delete(h.watchers, ch)
			close(ch)
		}
	}
}

func (h *fakeHost) script(before bool, op string, f hook) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if before {
		h.before[op] = f
	} else {
		h.after[op] = f
	}
}

// do runs one command: the hook before it, act under the lock, the hook after.
func (h *fakeHost) do(ctx context.Context, op string, ref sandbox.Ref, act func() (control.ObservedSandbox, error)) (control.ObservedSandbox, error) {
	h.mu.Lock()
	down, before, after := h.down, h.before[op], h.after[op]
	h.mu.Unlock()
	if down {
		return control.ObservedSandbox{}, errDown
	}
	if before != nil {
		if err := before(ctx, ref); err != nil {
			return control.ObservedSandbox{}, err
		}
	}
	h.mu.Lock()
	var observed control.ObservedSandbox
	err := error(nil)
	if vm := h.vms[ref.ID]; vm != nil && ref.Generation < vm.Ref.Generation {
		err = fault.New(fault.Stale, "stale_generation", "there is a newer incarnation")
	} else {
		h.count[op]++
		observed, err = act()
	}
	h.mu.Unlock()
	if err == nil && after != nil {
		err = after(ctx, ref)
	}
	return observed, err
}

// in returns the VM of ref if it is in state. The caller holds mu.
func (h *fakeHost) in(ref sandbox.Ref, state control.VMState) (*control.ObservedSandbox, error) {
	vm := h.vms[ref.ID]
	if vm == nil {
		return nil, fault.New(fault.NotFound, control.ReasonSandboxNotFound, "no such sandbox")
	}
	if vm.State != state {
		return nil, fault.New(fault.WrongState, control.ReasonNotRunning, "the sandbox is %s", vm.State)
	}
	return vm, nil
}

func (h *fakeHost) Create(ctx context.Context, ref sandbox.Ref, spec sandbox.Spec, from sandbox.SnapshotID) (control.ObservedSandbox, error) {
	return h.do(ctx, "create", ref, func() (control.ObservedSandbox, error) {
		if h.unlimited {
			spec.Egress = sandbox.Egress{}
		}
		if h.keepsMemory {
			spec.PauseDiskOnly = false
		}
		source := "restore"
		if from != "" {
			if h.snaps[from] == nil {
				return control.ObservedSandbox{}, fault.New(fault.NotFound, control.ReasonSnapshotNotFound, "no such snapshot")
			}
			source = "fork"
		}
		now := time.Now()
		vm := &control.ObservedSandbox{
			Ref: ref, Spec: spec, State: control.VMRunning, SnapshotID: from,
			Runtime: control.RuntimeInfo{
				GuestIP: "10.0.0.2", HostIP: "10.11.0.1", Acceleration: "tcg", Isolation: sandbox.IsolationProcess, StartedAt: now,
				Source: source, RestoreReport: &sandbox.RestoreReport{At: now, Generation: ref.Generation, Reseeded: true},
			},
		}
		startLifetime(vm)
		h.vms[ref.ID] = vm
		return *vm, nil
	})
}

// startLifetime has the lifetime of v run from now.
func startLifetime(v *control.ObservedSandbox) {
	v.Runtime.LifetimeEndsAt = time.Time{}
	if v.Spec.Lifetime > 0 {
		v.Runtime.LifetimeEndsAt = time.Now().Add(v.Spec.Lifetime)
	}
}

// SetTimeouts changes paused sandboxes too, as a host does.
func (h *fakeHost) SetTimeouts(ctx context.Context, ref sandbox.Ref, t control.TimeoutChange) (control.ObservedSandbox, error) {
	return h.do(ctx, "timeouts", ref, func() (control.ObservedSandbox, error) {
		vm := h.vms[ref.ID]
		if vm == nil {
			return control.ObservedSandbox{}, fault.New(fault.NotFound, control.ReasonSandboxNotFound, "no such sandbox")
		}
		h.said = append(h.said, t)
		if t.Idle != nil {
			vm.Spec.Timeout = *t.Idle
		}
		if t.OnTimeout != nil {
			vm.Spec.OnTimeout = *t.OnTimeout
		}
		if t.Lifetime != nil {
			vm.Spec.Lifetime = *t.Lifetime
			if vm.State == control.VMRunning {
				startLifetime(vm)
			}
		}
		return *vm, nil
	})
}

// SetEgress is unknown to an agent that ignores limits.
func (h *fakeHost) SetEgress(ctx context.Context, ref sandbox.Ref, limits sandbox.Egress) (control.ObservedSandbox, error) {
	return h.do(ctx, "egress", ref, func() (control.ObservedSandbox, error) {
		vm := h.vms[ref.ID]
		switch {
		case h.unlimited:
			return control.ObservedSandbox{}, fault.New(fault.Unsupported, "unsupported", "unimplemented")
		case vm == nil:
			return control.ObservedSandbox{}, fault.New(fault.NotFound, control.ReasonSandboxNotFound, "no such sandbox")
		}
		vm.Spec.Egress = limits
		return *vm, nil
	})
}

func (h *fakeHost) CreateSnapshot(ctx context.Context, ref sandbox.Ref, id sandbox.SnapshotID, _ control.SnapshotKind) (control.ObservedSnapshot, error) {
	var out control.ObservedSnapshot
	_, err := h.do(ctx, "snapshot", ref, func() (control.ObservedSandbox, error) {
		vm := h.vms[ref.ID]
		if vm == nil {
			return control.ObservedSandbox{}, fault.New(fault.NotFound, control.ReasonSandboxNotFound, "no such sandbox")
		}
		out = control.ObservedSnapshot{ID: id, Of: vm.Ref, Spec: vm.Spec, Bytes: 4096, PauseWindow: 40 * time.Millisecond}
		h.snaps[id] = &out
		return control.ObservedSandbox{}, nil
	})
	return out, err
}

func (h *fakeHost) ForceSnapshot(ctx context.Context, ref sandbox.Ref, id sandbox.SnapshotID, kind control.SnapshotKind) (control.ObservedSnapshot, error) {
	return h.CreateSnapshot(context.WithValue(ctx, forced{}, true), ref, id, kind)
}

func (h *fakeHost) SnapshotDisk(ctx context.Context, ref sandbox.Ref, id sandbox.SnapshotID, kind control.SnapshotKind) (control.ObservedSnapshot, error) {
	out, err := h.CreateSnapshot(ctx, ref, id, kind)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.snaps[id] != nil && !h.keepsMemory {
		h.snaps[id].DiskOnly, out.DiskOnly = true, err == nil
	}
	return out, err
}

// forced marks the context of commands that do not need the guest's help.
type forced struct{}

// silent is a hook for a guest that does not answer.
func silent(ctx context.Context, _ sandbox.Ref) error {
	if ctx.Value(forced{}) != nil {
		return nil
	}
	return fault.New(fault.Unavailable, "guest_unresponsive", "the guest does not answer")
}

func (h *fakeHost) DeleteSnapshot(ctx context.Context, id sandbox.SnapshotID) error {
	_, err := h.do(ctx, "unsnapshot", sandbox.Ref{}, func() (control.ObservedSandbox, error) {
		delete(h.snaps, id)
		return control.ObservedSandbox{}, nil
	})
	return err
}

func (h *fakeHost) Snapshots(context.Context) ([]control.ObservedSnapshot, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down {
		return nil, errDown
	}
	var out []control.ObservedSnapshot
	for _, s := range h.snaps {
		out = append(out, *s)
	}
	return out, nil
}

func (h *fakeHost) CollectGarbage(ctx context.Context, mode control.GarbageMode) ([]control.Garbage, error) {
	_, err := h.do(ctx, "gc "+string(mode), sandbox.Ref{}, func() (control.ObservedSandbox, error) { return control.ObservedSandbox{}, nil })
	return []control.Garbage{{Kind: "build", ID: "b1", Bytes: 7, Reason: "left over"}}, err
}

// ImportImage makes an image whose name and digest come from the reference, or from the
// content of an archive, and adds it to the templates of the host.
func (h *fakeHost) ImportImage(ctx context.Context, src control.ImageSource, content io.Reader, progress func(control.ImageProgress)) (control.HostImage, error) {
	text := []byte(src.Reference)
	if src.Reference == "" {
		var err error
		if text, err = io.ReadAll(content); err != nil {
			return control.HostImage{}, err
		}
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(text))
	image := control.HostImage{
		Name: "oci-" + sum[:32], Digest: "sha256:" + sum, Env: []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"},
		User: "app", Workdir: "/srv", Entrypoint: []string{"/entry"}, Cmd: []string{"serve"},
	}
	_, err := h.do(ctx, "import", sandbox.Ref{}, func() (control.ObservedSandbox, error) {
		if !slices.Contains(h.info.Templates, image.Name) {
			h.info.Templates = append(slices.Clone(h.info.Templates), image.Name)
		}
		return control.ObservedSandbox{}, nil
	})
	if err != nil {
		return control.HostImage{}, err
	}
	progress(control.ImageProgress{Stage: "pull", Done: int64(len(text)), Total: int64(len(text))})
	return image, nil
}

func (h *fakeHost) Destroy(ctx context.Context, ref sandbox.Ref, _ sandbox.StopReason) error {
	_, err := h.do(ctx, "destroy", ref, func() (control.ObservedSandbox, error) {
		delete(h.vms, ref.ID)
		return control.ObservedSandbox{}, nil
	})
	return err
}

func (h *fakeHost) Pause(ctx context.Context, ref sandbox.Ref) (control.ObservedSandbox, error) {
	return h.do(ctx, "pause", ref, func() (control.ObservedSandbox, error) {
		vm, err := h.in(ref, control.VMRunning)
		if err != nil {
			return control.ObservedSandbox{}, err
		}
		vm.State, vm.Runtime.LifetimeEndsAt = control.VMPaused, time.Time{}
		return *vm, nil
	})
}

func (h *fakeHost) ForcePause(ctx context.Context, ref sandbox.Ref) (control.ObservedSandbox, error) {
	return h.Pause(context.WithValue(ctx, forced{}, true), ref)
}

func (h *fakeHost) PauseDisk(ctx context.Context, ref sandbox.Ref) (control.ObservedSandbox, error) {
	if _, err := h.Pause(ctx, ref); err != nil {
		return control.ObservedSandbox{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	vm := h.vms[ref.ID]
	vm.DiskOnly, vm.Health = true, sandbox.Health{State: sandbox.HealthOK}
	return *vm, nil
}

func (h *fakeHost) ResumeForUse(ctx context.Context, ref sandbox.Ref) (control.ObservedSandbox, error) {
	h.mu.Lock()
	vm := h.vms[ref.ID]
	refused := vm != nil && vm.State == control.VMPaused && vm.DiskOnly
	h.mu.Unlock()
	if refused {
		return control.ObservedSandbox{}, fault.New(fault.WrongState, "paused_without_memory", "it has no memory")
	}
	return h.Resume(ctx, ref)
}

func (h *fakeHost) Reboot(ctx context.Context, ref sandbox.Ref) (control.ObservedSandbox, error) {
	h.mu.Lock()
	h.reboots++
	h.mu.Unlock()
	return h.Resume(ctx, ref)
}

func (h *fakeHost) Resume(ctx context.Context, ref sandbox.Ref) (control.ObservedSandbox, error) {
	return h.do(ctx, "resume", ref, func() (control.ObservedSandbox, error) {
		vm, err := h.in(ref, control.VMPaused)
		if err != nil {
			return control.ObservedSandbox{}, err
		}
		vm.State, vm.Ref, vm.LastActiveAt, vm.DiskOnly = control.VMRunning, ref, time.Now(), false
		startLifetime(vm)
		return *vm, nil
	})
}

func (h *fakeHost) Exec(ctx context.Context, ref sandbox.Ref, e control.Exec, sink control.ExecSink) (control.ExecResult, error) {
	_, err := h.do(ctx, "exec", ref, func() (control.ObservedSandbox, error) {
		_, err := h.in(ref, control.VMRunning)
		return control.ObservedSandbox{}, err
	})
	if err != nil {
		return control.ExecResult{}, err
	}
	return control.ExecResult{ExitCode: 3}, sink.Stdout([]byte(e.Cmd))
}

func (h *fakeHost) WriteFile(ctx context.Context, ref sandbox.Ref, _ control.WriteFile, content io.Reader) (int64, error) {
	if h.eager {
		if _, err := content.Read(make([]byte, 1)); err != nil {
			return 0, err
		}
	}
	if _, err := h.do(ctx, "write", ref, func() (control.ObservedSandbox, error) {
		_, err := h.in(ref, control.VMRunning)
		return control.ObservedSandbox{}, err
	}); err != nil {
		return 0, err
	}
	return io.Copy(io.Discard, content)
}

func (h *fakeHost) ReadFile(ctx context.Context, ref sandbox.Ref, r control.ReadFile) (*control.File, error) {
	if _, err := h.do(ctx, "read", ref, func() (control.ObservedSandbox, error) {
		_, err := h.in(ref, control.VMRunning)
		return control.ObservedSandbox{}, err
	}); err != nil {
		return nil, err
	}
	return &control.File{Name: r.Path, Size: 2, Body: io.NopCloser(bytes.NewReader([]byte("ok")))}, nil
}

// refusedPort is the port on which no guest listens.
const refusedPort = 81

func (h *fakeHost) DialPort(ctx context.Context, ref sandbox.Ref, port uint16, options ...control.DialOption) (control.PortConn, error) {
	if _, err := h.do(ctx, "dial", ref, func() (control.ObservedSandbox, error) {
		_, err := h.in(ref, control.VMRunning)
		return control.ObservedSandbox{}, err
	}); err != nil {
		return nil, err
	}
	if port == refusedPort {
		return nil, fault.New(fault.HostFailed, control.ReasonPortRefused, "nothing listens there")
	}
	conn, _ := net.Pipe()
	return pipePort{conn}, nil
}

// CallProcess answers with the id of the operation's process.
func (h *fakeHost) CallProcess(ctx context.Context, ref sandbox.Ref, call control.ProcessCall) ([]control.Process, error) {
	_, err := h.do(ctx, "process", ref, func() (control.ObservedSandbox, error) {
		_, err := h.in(ref, control.VMRunning)
		return control.ObservedSandbox{}, err
	})
	if err != nil {
		return nil, err
	}
	get, _ := call.(control.ProcessGet)
	return []control.Process{{ID: get.ID}}, nil
}

func (h *fakeHost) AttachProcess(ctx context.Context, ref sandbox.Ref, a control.ProcessAttach, sink control.ProcessSink) (control.Process, error) {
	_, err := h.do(ctx, "attach", ref, func() (control.ObservedSandbox, error) {
		_, err := h.in(ref, control.VMRunning)
		return control.ObservedSandbox{}, err
	})
	if err != nil {
		return control.Process{}, err
	}
	return control.Process{ID: a.ID}, sink.Output("stdout", a.Offset, []byte("hi"))
}

// CallFile answers with one entry.
func (h *fakeHost) CallFile(ctx context.Context, ref sandbox.Ref, _ control.FileCall) (control.FilePage, error) {
	_, err := h.do(ctx, "file", ref, func() (control.ObservedSandbox, error) {
		_, err := h.in(ref, control.VMRunning)
		return control.ObservedSandbox{}, err
	})
	if err != nil {
		return control.FilePage{}, err
	}
	return control.FilePage{Entries: []control.FileEntry{{Name: "a", Type: control.FileRegular}}}, nil
}

// WatchFiles reports one change and then waits for the end of ctx.
func (h *fakeHost) WatchFiles(ctx context.Context, ref sandbox.Ref, _ control.FileWatch, sink func(control.FileEvent) error) error {
	_, err := h.do(ctx, "watch", ref, func() (control.ObservedSandbox, error) {
		_, err := h.in(ref, control.VMRunning)
		return control.ObservedSandbox{}, err
	})
	if err != nil {
		return err
	}
	if err := sink(control.FileEvent{Type: control.FileWatchReady}); err != nil {
		return err
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// pipePort is a connection to a program that says nothing.
type pipePort struct{ net.Conn }

func (pipePort) CloseWrite() error { return nil }

func (h *fakeHost) Sandbox(_ context.Context, id sandbox.ID) (*control.ObservedSandbox, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down {
		return nil, errDown
	}
	if vm := h.vms[id]; vm != nil {
		observed := *vm
		return &observed, nil
	}
	return nil, nil
}

func (h *fakeHost) Sandboxes(ctx context.Context) ([]control.ObservedSandbox, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down {
		return nil, errDown
	}
	var out []control.ObservedSandbox
	for _, vm := range h.vms {
		out = append(out, *vm)
	}
	return out, nil
}

func (h *fakeHost) Watch(ctx context.Context, ready func(), on func(control.ObservedSandbox)) error {
	h.mu.Lock()
	if h.down {
		h.mu.Unlock()
		return errDown
	}
	ch := make(chan control.ObservedSandbox, 16)
	h.watchers[ch] = struct{}{}
	h.mu.Unlock()
	ready()
	for {
		select {
		case v, ok := <-ch:
			if !ok {
				return errDown
			}
			on(v)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// put makes the host have exactly this VM, and says so to who watches.
func (h *fakeHost) put(v control.ObservedSandbox) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.vms[v.Ref.ID] = &v
	for ch := range h.watchers {
		ch <- v
	}
}

// forget makes the host lose a VM without a word.
func (h *fakeHost) forget(id sandbox.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.vms, id)
}

// has returns the state of a VM, "" when there is none.
func (h *fakeHost) has(id sandbox.ID) control.VMState {
	h.mu.Lock()
	defer h.mu.Unlock()
	if vm := h.vms[id]; vm != nil {
		return vm.State
	}
	return ""
}

// fakeFleet is a fleet of one fakeHost.
type fakeFleet struct {
	host *fakeHost

	mu   sync.Mutex // protects the following
	last control.HostInfo
}

func newFakeFleet(h *fakeHost) *fakeFleet {
	return &fakeFleet{host: h, last: control.HostInfo{ID: h.id}}
}

func (f *fakeFleet) Hosts() []control.HostInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []control.HostInfo{f.last}
}

func (f *fakeFleet) Host(id string) (control.Host, bool) { return f.host, id == f.host.id }

func (f *fakeFleet) Refresh(context.Context, string) (control.HostInfo, error) {
	f.host.mu.Lock()
	down, info := f.host.down, f.host.info
	f.host.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if down {
		f.last.Reachable = false
		return f.last, errDown
	}
	info.Reachable = true
	f.last = info
	return info, nil
}
