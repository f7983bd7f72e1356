package disk

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/linux/statfs"
)

// DefaultBallast is enough, in bytes, for a database to recover and to write
// all that it has to until somebody makes room: four segments of its log.
const DefaultBallast = 64 << 20

const (
	// ballastInterval is how often Keep looks at the free space.
	ballastInterval = time.Second
	// ballastLow is the free space, in bytes, below which a ballast is released.
	ballastLow = 16 << 20
)

// Ballast is a file that takes space while there is some. When the disk is full
// it is released, so that a database and journals, which cannot be stopped as a
// guest can, have room to continue.
type Ballast struct {
	Path string
	// Size is in bytes.
	Size int64
}

// Keep makes the file, releases it while the disk is full and makes it again
// when there is room for it three times over, until ctx ends. It returns nil.
func (b Ballast) Keep(ctx context.Context, log *slog.Logger) error {
	tick := time.NewTicker(ballastInterval)
	defer tick.Stop()
	for {
		switch released, made, err := b.Adjust(); {
		case released:
			log.Error("the disk is full; released the ballast, so that database and journals can continue: make room now", "ballast", b.Path, "mb", b.Size>>20)
		case made:
			log.Info("made the ballast for a full disk", "ballast", b.Path, "mb", b.Size>>20)
		case err != nil:
			log.Debug("the ballast cannot be adjusted, will try again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Adjust checks the free space once, and reports whether it released or made the ballast.
func (b Ballast) Adjust() (released, made bool, err error) {
	fs, err := statfs.Path(filepath.Dir(b.Path))
	if err != nil {
		return false, false, err
	}
	free := int64(fs.Available)
	f, err := os.OpenFile(b.Path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, false, err
	}
	switch {
	case free < ballastLow && info.Size() > 0:
		err = f.Truncate(0)
		return err == nil, false, err
	case free > 3*b.Size && info.Size() != b.Size:
		if err = unix.Fallocate(int(f.Fd()), 0, 0, b.Size); err != nil {
			return false, false, errors.Join(err, f.Truncate(0))
		}
		return false, true, nil
	default:
		return false, false, nil
	}
}
