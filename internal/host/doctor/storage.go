package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/image"
)

// lowSpace is the free space below which templates and a few snapshots do not
// fit.
const lowSpace = 10 << 30

// checkData looks at the file system that the data directory is in or will be
// made in.
func checkData(cfg Config) []Check {
	data := cfg.Data
	c := Check{Name: "data directory", Status: OK}
	at, err := nearest(data.Dir)
	if err != nil {
		c.Status, c.Found, c.Detail = Fail, data.Dir+" cannot be used", err.Error()
		return []Check{c}
	}
	c.Found = data.Dir
	if at != filepath.Clean(data.Dir) {
		c.Found += " (not made yet)"
	}
	return []Check{checkReflink(c, at, cfg), checkSpace(at, cfg.DiskReserveBytes)}
}

// checkReflink tries the file system at an existing directory on behalf of the
// data directory.
func checkReflink(c Check, at string, cfg Config) Check {
	data := cfg.Data
	own, err := data.Exists()
	if f := fault.As(err); f != nil && f.Kind == fault.WrongState {
		c.Status, c.Detail = Fail, f.Public
		return c
	}
	can, err := disk.Probe(at)
	switch {
	case err != nil:
		c.Status, c.Detail = Warn, "files cannot be made there: "+err.Error()
	case can.Reflink:
		c.Found += " on " + can.FS + ", copies share blocks (reflink)"
	case own:
		c.Found += ", copies share blocks (reflink) once the next start mounts " + data.Image
	default:
		c.Status = Warn
		c.Found += " on " + can.FS + ", no reflink"
		c.Detail = "the disk of each new sandbox is copied; on xfs or btrfs copies are instant and free, " +
			"and an xfs in a file can be made as long as the directory is empty"
		if names, err := os.ReadDir(data.Dir); len(names) == 0 && (err == nil || errors.Is(err, fs.ErrNotExist)) {
			c.Fix = cfg.command("up --data-fs xfs")
		}
	}
	return c
}

func checkSpace(dir string, reserve uint64) Check {
	c := Check{Name: "free space", Status: OK}
	total, free, err := disk.Space(dir)
	if err != nil {
		c.Status, c.Found, c.Detail = Warn, "unknown", err.Error()
		return c
	}
	c.Found = fmt.Sprintf("%d MB of %d MB, %d MB of them in reserve", free>>20, total>>20, reserve>>20)
	switch {
	case free < reserve:
		c.Status = Fail
		c.Detail = "new sandboxes are refused below the reserve, which is kept for pausing those that run"
	case free < lowSpace:
		c.Status = Warn
		c.Detail = fmt.Sprintf("below %d GB templates and snapshots may not fit", lowSpace>>30)
	}
	return c
}

// nearest is dir, or the nearest directory above it that exists.
func nearest(dir string) (string, error) {
	at, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for {
		st, err := os.Stat(at)
		switch {
		case err == nil && st.IsDir():
			return at, nil
		case err == nil:
			return "", fmt.Errorf("%s is not a directory", at)
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		}
		at = filepath.Dir(at)
	}
}

// checkImages opens the store only where there is one: opening makes the
// directories that are missing.
func checkImages(cfg Config) []Check {
	dir, buildFix := cfg.ImageDir, cfg.command("image build")
	kernel := Check{Name: "guest kernel", Status: Fail, Found: "not prepared", Fix: buildFix}
	templates := Check{Name: "templates", Status: Fail, Found: "none", Fix: buildFix}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return []Check{kernel, templates}
	}
	store, err := image.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		kernel.Detail = err.Error()
		return []Check{kernel, templates}
	}
	if k, err := store.Kernel(); err == nil {
		kernel = Check{Name: "guest kernel", Status: OK, Found: k.Release}
	}
	all, err := store.Templates()
	if err != nil || len(all) == 0 {
		return []Check{kernel, templates}
	}
	names := make([]string, len(all))
	for i, t := range all {
		names[i] = t.Name
	}
	templates = Check{Name: "templates", Status: OK, Found: strings.Join(names, ", ")}
	return []Check{kernel, templates, checkSharing(all, "/proc")}
}
