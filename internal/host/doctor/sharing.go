package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/image"
)

// checkSharing looks at how running VMs have the read-only roots open. All who
// open one file share its pages in the host's page cache, but for those who
// pass the cache by. proc is the mounted proc(5).
func checkSharing(templates []image.Template, proc string) Check {
	c := Check{Name: "shared root", Status: OK}
	roots := make(map[string]bool, len(templates))
	for _, t := range templates {
		if path, err := filepath.EvalSymlinks(t.Path); err == nil {
			roots[path] = true
		}
	}
	cached, direct := countOpen(roots, proc)
	switch {
	case direct > 0:
		c.Status = Warn
		c.Found = fmt.Sprintf("processes with a template open: %d, of them past the page cache: %d", cached+direct, direct)
		c.Detail = "each of them reads the template's files from the disk by itself"
	case cached == 0:
		c.Found = "no VM has a template open now"
	default:
		c.Found = fmt.Sprintf("processes with a template open: %d, all through the page cache", cached)
	}
	return c
}

// countOpen counts the processes that have one of the files open: those with
// the page cache, and those without (O_DIRECT). Processes that end meanwhile or
// may not be looked at do not count.
func countOpen(files map[string]bool, proc string) (cached, direct int) {
	found, err := filepath.Glob(filepath.Join(proc, "[0-9]*"))
	if err != nil {
		return 0, 0
	}
	for _, process := range found {
		switch open, isDirect := opens(files, process); {
		case isDirect:
			direct++
		case open:
			cached++
		}
	}
	return cached, direct
}

// opens reports whether the process has one of the files open, and whether any
// of them with O_DIRECT.
func opens(files map[string]bool, process string) (open, direct bool) {
	fds, err := os.ReadDir(filepath.Join(process, "fd"))
	if err != nil {
		return false, false
	}
	for _, fd := range fds {
		target, err := os.Readlink(filepath.Join(process, "fd", fd.Name()))
		if err != nil || !files[target] {
			continue
		}
		open = true
		direct = direct || openFlags(filepath.Join(process, "fdinfo", fd.Name()))&unix.O_DIRECT != 0
	}
	return open, direct
}

// openFlags reads the flags of a file in the format of proc_pid_fdinfo(5); 0
// if it cannot.
func openFlags(path string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, err := strconv.ParseInt(strings.TrimSpace(value), 8, 64)
			if err != nil {
				return 0
			}
			return flags
		}
	}
	return 0
}
