package datafs

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

// A write to a file system in a sparse file is taken when the file system has
// room, and reaches the file later. If the disk below is full by then, the
// write is lost, and only a caller of fsync(2) learns of it. So the file system
// must never look emptier than the disk below it is: Guard takes the difference
// away with a file that holds space and no data.

const (
	// guardInterval is how often Guard compares the two.
	guardInterval = 500 * time.Millisecond
	// guardMargin is the space, in bytes, that is kept between them: for writes of
	// others to the disk below between two checks, and for the file
	// system's own metadata.
	guardMargin = 256 << 20
	// guardStep is how much the held space has to be off, in bytes, to be
	// changed.
	guardStep = 16 << 20
	guardName = ".held"
)

// Guard keeps the free space of the file system at the amount that the disk below it can
// take, until ctx ends, and returns nil. It must be mounted. The space that it
// holds is kept when it ends, and adjusted by the next Guard.
func (p Place) Guard(ctx context.Context, log *slog.Logger) error {
	tick := time.NewTicker(guardInterval)
	defer tick.Stop()
	failing := false
	for {
		held, err := p.hold()
		switch {
		case err != nil && !failing:
			log.Warn("the free space of the data's file system cannot be kept at that of the disk below, will try again", "error", err)
		case err == nil && held.changed && held.bytes > 0:
			log.Warn("the disk below the data's file system is nearly full", "held_mb", held.bytes>>20, "below_free_mb", held.below>>20)
		case err == nil && held.changed:
			log.Info("the disk below the data's file system has space again", "below_free_mb", held.below>>20)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// heldSpace is the result of one check by Guard.
type heldSpace struct {
	bytes, below int64
	changed      bool
}

// hold makes one check and adjusts the held space.
func (p Place) hold() (heldSpace, error) {
	f, err := os.OpenFile(filepath.Join(p.Dir, guardName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return heldSpace{}, err
	}
	defer f.Close()
	inner, errInner := statfs.File(f)
	outer, errOuter := statfs.Path(filepath.Dir(p.Image))
	var file, image unix.Stat_t
	err = errors.Join(errInner, errOuter, unix.Fstat(int(f.Fd()), &file), unix.Stat(p.Image, &image))
	if err != nil {
		return heldSpace{}, err
	}
	view := spaceView{
		total: int64(inner.Size), free: int64(inner.Available),
		held: file.Blocks * 512, written: image.Blocks * 512, below: int64(outer.Available),
	}
	out := heldSpace{bytes: view.target(), below: view.below}
	if diff := out.bytes - view.held; diff > -guardStep && diff < guardStep && (out.bytes > 0 || view.held == 0) {
		out.bytes = view.held
		return out, nil
	}
	if out.bytes < view.held {
		out.changed = true
		return out, f.Truncate(max(file.Size-(view.held-out.bytes), 0))
	}
	grown, err := grow(f, file.Size, out.bytes-view.held)
	out.bytes, out.changed = view.held+grown, grown >= guardStep
	return out, err
}

// grow adds up to n bytes of space at the end of f, whose size is given, and
// returns how much it got. A file system cannot always give the last of the space that it
// says is free.
func grow(f *os.File, size, n int64) (grown int64, err error) {
	for step := n; step >= 1<<20; step = min(step, n-grown) {
		switch err := unix.Fallocate(int(f.Fd()), 0, size+grown, step); {
		case err == nil:
			grown += step
		case errors.Is(err, unix.ENOSPC):
			step /= 2
		default:
			return grown, err
		}
	}
	return grown, nil
}

// spaceView holds the space of both file systems, in bytes.
type spaceView struct {
	// total, free and held are of the inner one; held is Guard's own.
	total, free, held int64
	// written is the part of the disk below that the image uses, below the free part there.
	written, below int64
}

// target returns how much is to be held, so that the used and the free space
// can all be written to the disk below.
func (v spaceView) target() int64 {
	used := v.total - v.free - v.held
	allowed := max(v.written+v.below-guardMargin-used, 0)
	return min(max(v.free+v.held-allowed, 0), v.free+v.held)
}
