package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/mapped"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

// mapped describes the VM to package mapped.
func (v *vm) mapped() mapped.Process {
	rec := v.Record()
	return mapped.Process{PID: rec.PID, Base: rec.MemoryFile, SaveState: v.saveState}
}

// SaveDelta writes the changed pages and the device state.
func (v *vm) SaveDelta(ctx context.Context, dir string) (vmm.SaveStats, error) {
	return v.mapped().SaveDelta(ctx, dir)
}

// BeginSave copies the memory file, which the VM has changed in its own copy only.
func (v *vm) BeginSave(ctx context.Context, dir string) (vmm.Save, error) {
	return v.mapped().BeginSave(ctx, dir)
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
