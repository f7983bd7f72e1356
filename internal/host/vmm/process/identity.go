package process

import (
	"fmt"
	"os"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

// Identify returns the record of the process with the number pid, which must be a
// child of the caller or otherwise certain to keep its number during the call. The
// driver fills in the other fields.
func Identify(driver string, pid int) (vmm.Record, error) {
	boot, err := proc.BootID()
	if err != nil {
		return vmm.Record{}, err
	}
	stat, err := proc.ReadStat(pid)
	if err != nil {
		return vmm.Record{}, err
	}
	return vmm.Record{Driver: driver, PID: pid, StartTicks: stat.StartTicks, BootID: boot}, nil
}

// open returns a descriptor of the process of rec. It is os.ErrProcessDone if that
// process has ended, or was never started.
func open(rec vmm.Record) (*os.File, error) {
	boot, err := proc.BootID()
	if err != nil {
		return nil, fmt.Errorf("tell whether process %d is of this boot: %w", rec.PID, err)
	}
	if boot != rec.BootID || rec.PID == 0 {
		return nil, os.ErrProcessDone
	}
	return proc.Open(rec.PID, rec.StartTicks)
}
