package qemu

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/mapped"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

const (
	consoleBytes = 64 << 10 // a power of two, as ringbuf wants
	// answerTimeout is how long a healthy QEMU may take to greet or to answer.
	// Loading device state touches guest memory that may have to be read from
	// disk first, on a machine that is busy booting others.
	answerTimeout = 30 * time.Second
	// adoptTimeout is how long the process of an earlier agent may take before
	// it is adopted without an answer.
	adoptTimeout = 5 * time.Second
)

// vm is one QEMU process.
//
// Invariants: exited is closed once, after the process has been reaped and the
// monitor's last event has been seen, so that exit never changes afterwards.
type vm struct {
	rec      vmm.Record
	pidfd    *os.File
	link     link
	child    *exec.Cmd // nil for an adopted process
	messages *tail
	exited   chan struct{}
	stalled  chan struct{} // has room for one
	// copyLeft: an earlier agent's copy of the disk may be under way.
	copyLeft atomic.Bool

	mu       sync.Mutex // protects the following
	killing  bool
	detached bool
	shutdown string // reason of the SHUTDOWN event
	exit     vmm.Exit
}

var _ vmm.VM = (*vm)(nil)

// Start boots cfg cold, with guest memory in a file of the scratch directory.
func (d *Driver) Start(ctx context.Context, cfg vmm.Config) (vmm.VM, error) {
	memory, err := bootMemory(cfg)
	if err != nil {
		return nil, err
	}
	v, _, err := d.start(ctx, cfg, memory, nil)
	if err != nil {
		return nil, err // never a nil *vm in a non-nil interface
	}
	return v, nil
}

// bootMemory creates the memory file of a cold boot, which the VM process owns.
func bootMemory(cfg vmm.Config) (string, error) {
	path, err := mapped.BootMemory(cfg.Scratch, int64(cfg.MemoryMB)<<20)
	if err != nil || os.Geteuid() != 0 {
		return path, err
	}
	return path, os.Chown(path, cfg.UID, cfg.GID)
}

// Restore starts cfg from a saved VM and leaves it paused. QEMU maps the base's
// memory file; the pages of a delta are written into the mapping before QEMU
// loads the device state, because that looks at guest memory.
func (d *Driver) Restore(ctx context.Context, cfg vmm.Config, from vmm.Image) (vmm.VM, error) {
	f, err := os.Open(mapped.StateFile(from))
	if err != nil {
		return nil, fmt.Errorf("open device state: %w", err)
	}
	defer f.Close()
	v, b, err := d.start(ctx, cfg, mapped.MemoryFile(from.Base), f)
	if err != nil {
		return nil, err
	}
	if err := mapped.Fill(ctx, from, v.rec.PID, v.rec.MemoryFile); err != nil {
		return nil, errors.Join(err, v.Kill(context.WithoutCancel(ctx)))
	}
	if err := v.load(ctx, b.version); err != nil {
		detail := v.messages.String()
		_ = v.Kill(context.WithoutCancel(ctx))
		return nil, fault.Wrap(fmt.Errorf("%w (qemu: %s)", err, detail), fault.HostFailed, "restore_failed",
			"the VM's saved state could not be loaded")
	}
	return v, nil
}

// start starts the build that cfg names, with the file memory as guest memory,
// and connects to it.
func (d *Driver) start(ctx context.Context, cfg vmm.Config, memory string, state *os.File) (*vm, build, error) {
	b, err := d.build(ctx, cfg.Build)
	if err != nil {
		return nil, b, err
	}
	cmd, messages, err := d.spawn(b, cfg, memory, state)
	if err != nil {
		return nil, b, fault.Wrap(err, fault.HostFailed, "vmm_start_failed", "the VM process could not be started")
	}
	v, err := d.attachChild(ctx, cfg, memory, cmd, messages)
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, b, fault.Wrap(fmt.Errorf("%w (qemu: %s)", err, messages), fault.HostFailed, "vmm_start_failed",
			"the VM process did not come up")
	}
	return v, b, nil
}

func (d *Driver) attachChild(ctx context.Context, cfg vmm.Config, memory string, cmd *exec.Cmd, messages *tail) (*vm, error) {
	stat, err := proc.ReadStat(cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	boot, err := proc.BootID()
	if err != nil {
		return nil, err
	}
	rec := vmm.Record{
		Driver: Name, ID: cfg.ID, Dir: cfg.Dir, PID: cmd.Process.Pid, StartTicks: stat.StartTicks, BootID: boot, MemoryFile: memory,
	}
	return attach(ctx, rec, cmd, messages)
}

// attach connects to the process of rec and starts to watch it.
func attach(ctx context.Context, rec vmm.Record, child *exec.Cmd, messages *tail) (*vm, error) {
	pidfd, err := openProcess(identity{rec.PID, rec.StartTicks})
	if err != nil {
		return nil, err
	}
	v := &vm{rec: rec, pidfd: pidfd, child: child, messages: messages, exited: make(chan struct{}), stalled: make(chan struct{}, 1)}
	v.link = link{path: monitorPath(rec.Dir), onEvent: v.onEvent, onReconnect: v.tellStalled, fresh: child != nil}
	patience := answerTimeout
	if child == nil {
		patience = adoptTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err = v.link.monitor(ctx)
	if err != nil && (child != nil || !processRuns(pidfd)) {
		_ = pidfd.Close()
		return nil, err
	}
	// A process of an earlier agent that runs and does not answer may do so
	// later: calls connect then.
	go v.watch()
	return v, nil
}

// Adopt connects to a process that an earlier agent started.
func (d *Driver) Adopt(ctx context.Context, rec vmm.Record) (vmm.VM, error) {
	if boot, err := proc.BootID(); err != nil || boot != rec.BootID {
		return nil, errors.Join(os.ErrProcessDone, err)
	}
	v, err := attach(ctx, rec, nil, &tail{})
	if err != nil {
		return nil, err // never a nil *vm in a non-nil interface
	}
	// Where the process does not answer now, the copy that an earlier agent may
	// have begun ends with the first Resume that it carries out. Until then it
	// costs the VM time, and nothing else.
	if v.copyLeft.Store(true); v.link.connected() {
		err := v.AbandonDiskCopy(ctx)
		if v.copyLeft.Store(err != nil); err != nil {
			d.log.WarnContext(ctx, "a copy of a disk that an earlier agent has begun goes on", "pid", rec.PID, "error", err)
		}
	}
	return v, nil
}

// KillRecord ends the process of rec, if it is still that process.
func (d *Driver) KillRecord(ctx context.Context, rec vmm.Record) error {
	if boot, err := proc.BootID(); err != nil || boot != rec.BootID || rec.PID == 0 {
		return err
	}
	pidfd, err := openProcess(identity{rec.PID, rec.StartTicks})
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = pidfd.SetReadDeadline(time.Now()) })
	defer stop()
	defer pidfd.Close()
	if err := killProcess(pidfd); err != nil {
		return err
	}
	return waitProcess(pidfd)
}

func (v *vm) onEvent(e event) {
	switch e.Name {
	case "SHUTDOWN":
		var data struct {
			Reason string `json:"reason"`
		}
		_ = json.Unmarshal(e.Data, &data) // an unreadable reason is an unknown one
		v.mu.Lock()
		v.shutdown = data.Reason
		v.mu.Unlock()
	case "BLOCK_IO_ERROR":
		v.onBlockError(e.Data)
	}
}

// onBlockError tells of a write for which QEMU has stopped the virtual CPUs.
// With werror=enospc that is one that found no space.
func (v *vm) onBlockError(raw json.RawMessage) {
	var data struct {
		Action string `json:"action"`
	}
	if json.Unmarshal(raw, &data) == nil && data.Action == "stop" {
		v.tellStalled()
	}
}

func (v *vm) tellStalled() {
	select {
	case v.stalled <- struct{}{}:
	default:
	}
}

// Detach hangs up and stops watching.
func (v *vm) Detach() {
	v.mu.Lock()
	v.detached = true
	v.mu.Unlock()
	v.link.close()
	_ = v.pidfd.Close() // ends watch
}

// watch waits for the end of the process and records it.
func (v *vm) watch() {
	detail := ""
	err := waitProcess(v.pidfd)
	v.mu.Lock()
	detached := v.detached
	v.mu.Unlock()
	if detached {
		return
	}
	if err != nil {
		detail = "waiting failed: " + err.Error() + "; "
	}
	if v.child != nil {
		_ = v.child.Wait()
		detail += v.child.ProcessState.String()
	}
	v.link.close()
	_ = v.pidfd.Close()
	if m := v.messages.String(); m != "" {
		detail += "; " + m
	}
	v.mu.Lock()
	v.exit = vmm.Exit{Cause: v.cause(), Detail: detail, At: time.Now()}
	v.mu.Unlock()
	close(v.exited)
}

// cause must be called with mu held.
func (v *vm) cause() vmm.Cause {
	switch {
	case v.shutdown == "guest-shutdown":
		return vmm.CauseGuestShutdown
	case v.shutdown == "guest-reset" || v.shutdown == "guest-panic":
		return vmm.CauseGuestReset
	case v.killing:
		return vmm.CauseKilled
	default:
		return vmm.CauseVMM
	}
}

func (v *vm) call(ctx context.Context, command string, args, out any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	mon, err := v.link.monitor(ctx)
	if err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	return mon.call(ctx, command, args, out)
}

// callWithFile is call for a command that takes a file.
func (v *vm) callWithFile(ctx context.Context, command string, f *os.File, args, out any) error {
	mon, err := v.link.monitor(ctx)
	if err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	return mon.callWithFile(ctx, command, f, args, out)
}

// runState is QEMU's name for the state of the VM (QEMU QMP reference, RunState).
type runState string

// stateIOError is the state after a write that werror= has stopped the VM for.
const stateIOError runState = "io-error"

// state asks for the VM's state.
func (v *vm) state(ctx context.Context) (runState, error) {
	var answer struct {
		Status runState `json:"status"`
	}
	err := v.call(ctx, "query-status", nil, &answer)
	return answer.Status, err
}

// Ping asks for the VM's state and ignores it.
func (v *vm) Ping(ctx context.Context) error {
	_, err := v.state(ctx)
	return err
}

// OutOfSpace reports whether a write without space has stopped the VM.
func (v *vm) OutOfSpace(ctx context.Context) (bool, error) {
	state, err := v.state(ctx)
	return state == stateIOError, err
}

// Pause stops the virtual CPUs.
func (v *vm) Pause(ctx context.Context) error { return v.call(ctx, "stop", nil, nil) }

// Resume starts the virtual CPUs.
func (v *vm) Resume(ctx context.Context) error {
	if v.copyLeft.Load() {
		if err := v.AbandonDiskCopy(ctx); err != nil {
			return err
		}
		v.copyLeft.Store(false)
	}
	// The write that was told of is tried again: if it fails again, that is told
	// again.
	told := false
	select {
	case <-v.stalled:
		told = true
	default:
	}
	err := v.call(ctx, "cont", nil, nil)
	if err != nil && told {
		v.tellStalled()
	}
	return err
}

// process describes the VM to package mapped.
func (v *vm) process() mapped.Process {
	return mapped.Process{PID: v.rec.PID, Base: v.rec.MemoryFile, SaveState: v.saveState}
}

// SaveDelta writes the changed pages and the device state.
func (v *vm) SaveDelta(ctx context.Context, dir string) (vmm.SaveStats, error) {
	return v.process().SaveDelta(ctx, dir)
}

// BeginSave copies the memory file, which the VM has changed in its own copy only.
func (v *vm) BeginSave(ctx context.Context, dir string) (vmm.Save, error) {
	return v.process().BeginSave(ctx, dir)
}

// saveState writes every section of the VM's state but its memory. The command
// was made for Xen and exists without it; New's callers test it per version.
// QEMU gets the file open: it has no directory that it could write to.
func (v *vm) saveState(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	set, err := v.addFd(ctx, f)
	if err != nil {
		return err
	}
	save := map[string]any{"filename": fdsetPath(set), "live": false}
	return errors.Join(
		v.call(ctx, "xen-save-devices-state", save, nil),
		v.call(ctx, "remove-fd", map[string]any{"fdset-id": set}, nil))
}

// addFd hands QEMU a duplicate of f and returns the fd set that holds it.
func (v *vm) addFd(ctx context.Context, f *os.File) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var added struct {
		Set int64 `json:"fdset-id"`
	}
	err := v.callWithFile(ctx, "add-fd", f, nil, &added)
	return added.Set, err
}

// load reads the device state that spawn passed and waits until it is in.
func (v *vm) load(ctx context.Context, ver version) error {
	uri := "file:" + fdsetPath(stateFdset)
	if !ver.loadsFiles() {
		uri = fmt.Sprintf("fd:%d", fdState)
	}
	if err := v.call(ctx, "migrate-incoming", map[string]any{"uri": uri}, nil); err != nil {
		return err
	}
	// Loading has no event unless one is switched on on both sides; it takes a
	// few milliseconds, so that asking again is the cheapest way to know.
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		state, err := v.state(ctx)
		if err != nil {
			return err
		}
		switch state {
		case "paused", "prelaunch":
			return nil
		case "inmigrate":
		default:
			return fmt.Errorf("the VM is %q after loading", untrusted.Line(string(state), 32))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Kill ends the process and waits until it is reaped.
func (v *vm) Kill(ctx context.Context) error {
	v.mu.Lock()
	v.killing = true
	v.mu.Unlock()
	select {
	case <-v.exited:
		return nil
	default:
	}
	if err := killProcess(v.pidfd); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	select {
	case <-v.exited:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of VM process %d: %w", v.rec.PID, context.Cause(ctx))
	}
}

// Stalled receives after a write has found the host's disk full.
func (v *vm) Stalled() <-chan struct{} { return v.stalled }

// Exited is closed when the process has ended.
func (v *vm) Exited() <-chan struct{} { return v.exited }

// Exit tells how it ended.
func (v *vm) Exit() vmm.Exit {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.exit
}

// Record returns the record that Adopt takes.
func (v *vm) Record() vmm.Record { return v.rec }

// Console returns the tail of the serial console. Reading it empties it.
func (v *vm) Console(ctx context.Context) ([]byte, error) {
	var out string
	err := v.call(ctx, "ringbuf-read", map[string]any{"device": "con", "size": consoleBytes, "format": "base64"}, &out)
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(out)
}
