package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/datafs"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
)

// The values of --data-fs.
const (
	dataFSAuto = "auto" // the file system that was made, or the directory as it is
	dataFSXFS  = "xfs"  // make one
	dataFSNone = "none" // the directory as it is
)

// minDataFS leaves room beside the disk reserve, in bytes.
const minDataFS = 2 * host.DefaultDiskReserveBytes

// dataFSSettings select the file system for the host agent's data.
type dataFSSettings struct {
	kind, size string
	sizeBytes  int64 // of size; 0 is the default
}

func (s *dataFSSettings) flags(f flagSet) {
	f.StringVar(&s.kind, "data-fs", dataFSAuto,
		"file system for sandboxes: xfs (made once, in a file; copies of disks share space), none (the directory itself) or auto (xfs if it was made)")
	f.StringVar(&s.size, "data-fs-size", "", "size of the file system of --data-fs xfs, such as 200G (default: 80% of the free space)")
}

func (s *dataFSSettings) validate() (err error) {
	switch s.kind {
	case dataFSAuto, dataFSXFS, dataFSNone:
	default:
		return fmt.Errorf("--data-fs is auto, xfs or none, not %q", s.kind)
	}
	if s.size == "" {
		return nil
	}
	if s.sizeBytes, err = parseSize(s.size); err != nil || s.sizeBytes < minDataFS {
		return fmt.Errorf("--data-fs-size must be a number with M, G or T after it, at least %dG, not %q", minDataFS>>30, s.size)
	}
	return nil
}

// parseSize reads a number of mebi-, gibi- or tebibytes, such as 200G.
func parseSize(text string) (int64, error) {
	number := strings.TrimRight(text, "MmGgTt")
	shift, ok := map[string]int{"M": 20, "G": 30, "T": 40}[strings.ToUpper(text[len(number):])]
	if !ok {
		return 0, fmt.Errorf("no unit in %q", text)
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("no size: %q", text)
	}
	return n << shift, nil
}

// prepare makes the host agent's directory and, if --data-fs selects one or one was
// made before, mounts its file system, which stays mounted.
func (s *dataFSSettings) prepare(ctx context.Context, dirs layout, log *slog.Logger) error {
	place := dirs.dataFS()
	exists, err := place.Exists()
	if err != nil {
		return err
	}
	if exists && s.kind == dataFSNone {
		return fault.New(fault.WrongState, "data_fs_exists",
			"%s holds the data of this host: start without --data-fs none, or remove that file with all sandboxes in it", place.Image)
	}
	if exists || s.kind == dataFSXFS {
		m, err := place.Open(ctx, s.sizeBytes)
		if err != nil {
			return err
		}
		log.Info("file system of the data", "image", place.Image, "device", m.Device, "made", m.Made, "was_mounted", m.Found, "direct_io", m.DirectIO)
	}
	if err := dirs.makeHost(); err != nil {
		return err
	}
	can, err := disk.Probe(dirs.host())
	if err != nil {
		log.Warn("the file system of the data directory cannot be probed", "error", err)
		return nil
	}
	log.Info("data directory", "dir", dirs.host(), "file_system", can.FS, "reflink", can.Reflink)
	return nil
}

// releaseData unmounts the host agent's file system if it has one of its own. If VMs
// or an agent still use it, it stays mounted and a message says so.
func (p program) releaseData(dirs layout) error {
	place := dirs.dataFS()
	err := place.Close()
	if fault.ReasonOf(err) != datafs.ReasonBusy {
		return err
	}
	p.say("%s", fault.As(err).Public)
	return nil
}
