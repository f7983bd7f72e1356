package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/host/memory"
)

// sealGuest has the guest forget its secrets and stand still, so that what is
// captured of it next can start again as somebody else.
func (m *machine) sealGuest(ctx context.Context) error { return m.sealWith(ctx, m.guest.Quiesce) }

func (m *machine) sealWith(ctx context.Context, quiesce func(context.Context) (*guestv1.QuiesceResponse, error)) error {
	ctx, cancel := context.WithTimeout(ctx, m.mgr.cfg.BootTimeout)
	defer cancel()
	ctx, stop := m.untilExit(ctx)
	defer stop()
	_, err := quiesce(ctx)
	return causeOr(ctx, err)
}

// saveState writes the device state of the stopped VM to snap.
func (m *machine) saveState(ctx context.Context, snap snapshotDir) error {
	// The VMM may write in its own directory only.
	tmp := filepath.Join(m.dir.vm(), "state")
	if err := removeFile(tmp); err != nil {
		return err
	}
	if err := m.vm.SaveState(ctx, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, snap.state())
}

// saveDiff writes what the stopped VM has changed of its base's memory to snap.
func (m *machine) saveDiff(ctx context.Context, snap snapshotDir) error {
	return m.saveMemory(ctx, snap.diff(), os.O_RDWR|os.O_CREATE|os.O_TRUNC, memory.WriteDiff)
}

// saveWhole makes the memory of the stopped VM of snap's, which is a copy of
// its base's.
func (m *machine) saveWhole(ctx context.Context, snap snapshotDir) error {
	return m.saveMemory(ctx, snap.memory(), os.O_RDWR, memory.WriteDirty)
}

func (m *machine) saveMemory(ctx context.Context, path string, flags int, write func(context.Context, int, string, *os.File) (memory.Stats, error)) error {
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return err
	}
	rec := m.vm.Record()
	m.captured, err = write(ctx, rec.PID, rec.MemoryFile, f)
	return errors.Join(err, f.Close())
}
