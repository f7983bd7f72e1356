package vmm

import (
	"context"
	"errors"
	"os"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Absent returns the driver for a runtime that the host does not offer any more. It
// stands for the driver of paused sandboxes, which wait until the host offers the
// runtime again. Each start fails with kind Unsupported, reason
// "runtime_unavailable". It never has a VM.
func Absent(runtime sandbox.Runtime) Driver { return absent{runtime} }

type absent struct{ runtime sandbox.Runtime }

func (a absent) missing() error {
	return fault.New(fault.Unsupported, "runtime_unavailable",
		"this host does not offer the runtime %s any more; install it again and restart the host agent", a.runtime)
}

// Info keeps that property of the runtime's VMs that decides whether an interrupted
// resume has left the pause unchanged.
func (a absent) Info() Info {
	return Info{Driver: "absent", Runtime: a.runtime, Shape: Shape{DiskInSnapshot: a.runtime == sandbox.RuntimeGVisor}}
}

// Fingerprint returns a map that matches no snapshot. Callers add to it.
func (absent) Fingerprint(Config) map[string]string { return map[string]string{} }

func (absent) BootInputs() map[string]string                        { return nil }
func (absent) Builds() ([]Build, error)                             { return nil, nil }
func (absent) Files(Form) []File                                    { return nil }
func (absent) Find(string) ([]Record, error)                        { return nil, nil }
func (a absent) CheckDelta(Config, string) error                    { return a.missing() }
func (a absent) BuildOf(map[string]string) (string, error)          { return "", a.missing() }
func (a absent) RemoveBuild(context.Context, string) error          { return a.missing() }
func (a absent) Start(context.Context, Config) (VM, error)          { return nil, a.missing() }
func (a absent) Restore(context.Context, Config, Image) (VM, error) { return nil, a.missing() }
func (a absent) Flatten(context.Context, Image, string) error       { return a.missing() }
func (a absent) Adopt(context.Context, Record) (VM, error)          { return nil, a.missing() }

// KillRecord succeeds if the process of rec has ended, so that its sandbox can be
// removed. It leaves one that lives alone.
func (a absent) KillRecord(_ context.Context, rec Record) error {
	boot, err := proc.BootID()
	if err != nil || rec.PID == 0 || boot != rec.BootID {
		return err
	}
	fd, err := proc.Open(rec.PID, rec.StartTicks)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer fd.Close()
	if proc.Runs(fd) {
		return a.missing()
	}
	return nil
}
