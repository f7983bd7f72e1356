package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/image"
)

// lowSpace is the free space below which templates and a few snapshots do not
// fit.
const lowSpace = 10 << 30

// checkData looks at the file system that the data directory is in or will be
// made in.
func checkData(dir string) []Check {
	c := Check{Name: "data directory", Status: OK}
	at, err := nearest(dir)
	if err != nil {
		c.Status, c.Found, c.Detail = Fail, dir+" cannot be used", err.Error()
		return []Check{c}
	}
	c.Found = dir
	if at != filepath.Clean(dir) {
		c.Found += " (not made yet)"
	}
	return []Check{checkReflink(c, at, dir), checkSpace(at)}
}

// checkReflink tries the file system at an existing directory on behalf of dir.
func checkReflink(c Check, at, dir string) Check {
	can, err := disk.Probe(at)
	switch {
	case err != nil:
		c.Status, c.Detail = Warn, "files cannot be made there: "+err.Error()
	case can.Reflink:
		c.Found += " on " + can.FS + ", copies share blocks (reflink)"
	default:
		c.Status = Warn
		c.Found += " on " + can.FS + ", no reflink"
		c.Detail = "the disk of each new sandbox is copied; on xfs or btrfs copies would be instant and free"
		c.Fix = "mkfs.xfs -m reflink=1 DEVICE && mount DEVICE " + dir
	}
	return c
}

func checkSpace(dir string) Check {
	c := Check{Name: "free space", Status: OK}
	total, free, err := disk.Space(dir)
	if err != nil {
		c.Status, c.Found, c.Detail = Warn, "unknown", err.Error()
		return c
	}
	c.Found = fmt.Sprintf("%d GB of %d GB", free>>30, total>>30)
	if free < lowSpace {
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

const buildFix = "wrenn image build"

// checkImages opens the store only where there is one: opening makes the
// directories that are missing.
func checkImages(dir string) []Check {
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
	if all, err := store.Templates(); err == nil && len(all) > 0 {
		names := make([]string, len(all))
		for i, t := range all {
			names[i] = t.Name
		}
		templates = Check{Name: "templates", Status: OK, Found: strings.Join(names, ", ")}
	}
	return []Check{kernel, templates}
}
