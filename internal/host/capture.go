package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/memory"
)

// freezeGrace is how much longer than GuestTimeout a guest may take to freeze
// its processes, which it gives up by itself after 10 s.
const freezeGrace = 10 * time.Second

// sealIf asks a guest that helps to forget its secrets and to stop its processes.
// A snapshot of a sealed guest can be restored under another identity.
func (m *machine) sealIf(ctx context.Context, helps bool) error {
	if !helps {
		return errSilent(nil)
	}
	return m.freezeWith(ctx, func(ctx context.Context) error {
		_, err := m.Guest().Quiesce(ctx)
		return err
	})
}

// freezeWith calls freeze, which has the guest stand still. A guest that has
// answered just before and does not now is Unavailable guest_unresponsive.
func (m *machine) freezeWith(ctx context.Context, freeze func(context.Context) error) error {
	limit, cancel := context.WithTimeout(ctx, m.mgr.cfg.GuestTimeout+freezeGrace)
	defer cancel()
	limit, stop := m.UntilExit(limit)
	defer stop()
	err := freeze(limit)
	switch {
	case err == nil || ctx.Err() != nil || m.Ended():
		return causeOr(limit, err)
	case limit.Err() != nil:
		return errSilent(err)
	}
	return err
}

// saveState writes the device state of the stopped VM to snap.
func (b *body) saveState(ctx context.Context, snap snapshotDir) error {
	// The VMM may write in its own directory only.
	tmp := filepath.Join(b.Dir.VM(), "state")
	if err := removeFile(tmp); err != nil {
		return err
	}
	if err := b.VM.SaveState(ctx, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, snap.state())
}

// saveDiff writes the pages that the stopped VM has changed since its base to snap.
func (b *body) saveDiff(ctx context.Context, snap snapshotDir) error {
	return b.saveMemory(ctx, snap.diff(), os.O_RDWR|os.O_CREATE|os.O_TRUNC, memory.WriteDiff)
}

// saveWhole makes the memory of the stopped VM of snap's, which is a copy of
// its base's.
func (b *body) saveWhole(ctx context.Context, snap snapshotDir) error {
	return b.saveMemory(ctx, snap.memory(), os.O_RDWR, memory.WriteDirty)
}

func (b *body) saveMemory(ctx context.Context, path string, flags int, write func(context.Context, int, string, *os.File) (memory.Stats, error)) error {
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return err
	}
	rec := b.VM.Record()
	b.captured, err = write(ctx, rec.PID, rec.MemoryFile, f)
	return errors.Join(err, f.Close())
}
