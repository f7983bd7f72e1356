package process

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

// End kills the process of rec and returns after it has ended, or when ctx is done.
// It is os.ErrProcessDone if that process had ended before, or was never started.
func End(ctx context.Context, rec vmm.Record) error {
	fd, err := open(rec)
	if err != nil {
		return err
	}
	defer fd.Close()
	stop := context.AfterFunc(ctx, func() { _ = fd.SetReadDeadline(time.Now()) })
	defer stop()
	if err := proc.Kill(fd); err != nil {
		return err
	}
	return proc.Wait(fd)
}
