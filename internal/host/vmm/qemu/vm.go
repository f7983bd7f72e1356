package qemu

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/process"
)

const (
	consoleBytes = 64 << 10 // a power of two, as ringbuf wants
	// answerTimeout is how long a healthy QEMU may take to answer a command.
	// Loading device state touches guest memory that may have to be read from
	// disk first, on a machine that is busy booting others.
	answerTimeout = time.Minute
	// adoptTimeout is how long the process of an earlier agent may take before
	// it is adopted without an answer.
	adoptTimeout = 5 * time.Second
	// greetTimeout is how long a new process may take for its first answer. It is
	// long enough for a machine that boots many, and bounds the steps that have no
	// limit of their own, such as a resume.
	greetTimeout = 3 * time.Minute
)

// vm is one QEMU process.
//
// Invariant: its end is recorded after the process has been reaped and the monitor's
// last event has been seen.
type vm struct {
	*process.Process
	link     link
	child    *exec.Cmd // nil for an adopted process
	messages *tail
	stalled  chan struct{} // has room for one
	// copyLeft: an earlier agent's copy of the disk may be under way.
	copyLeft atomic.Bool

	mu       sync.Mutex // protects the following
	shutdown string     // reason of the SHUTDOWN event
}

var _ vmm.VM = (*vm)(nil)

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
	v.link.close()
	v.Process.Detach()
}

// ended reaps the process, if it is a child, and describes its end.
func (v *vm) ended(waitErr error) vmm.Exit {
	detail := ""
	if waitErr != nil {
		detail = "waiting failed: " + waitErr.Error() + "; "
	}
	if v.child != nil {
		_ = v.child.Wait()
		detail += v.child.ProcessState.String()
	}
	v.link.close()
	if m := v.messages.String(); m != "" {
		detail += "; " + m
	}
	return vmm.Exit{Cause: v.cause(), Detail: detail, At: time.Now()}
}

func (v *vm) cause() vmm.Cause {
	v.mu.Lock()
	shutdown := v.shutdown
	v.mu.Unlock()
	switch {
	case shutdown == "guest-shutdown":
		return vmm.CauseGuestShutdown
	case shutdown == "guest-reset" || shutdown == "guest-panic":
		return vmm.CauseGuestReset
	case v.Killed():
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

// Stalled receives after a write has found the host's disk full.
func (v *vm) Stalled() <-chan struct{} { return v.stalled }

// Console returns the tail of the serial console. Reading it empties it.
func (v *vm) Console(ctx context.Context) ([]byte, error) {
	var out string
	err := v.call(ctx, "ringbuf-read", map[string]any{"device": "con", "size": consoleBytes, "format": "base64"}, &out)
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(out)
}
