package gvisor

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/linux/cgroupfs"
)

// Control groups. On a host with cgroups v2 alone, the processes inherit the group
// that runsc is started in. On a host with v1 controllers the limits are in groups of
// v1, at the same path below each mount; runsc puts itself into them before it starts
// the sentry, takes the guest's sizes from them, and makes a group in every other
// hierarchy.

// hostControllers are those of the host's own groups (package cgroup), which the host
// removes. It may have others, which it does not miss.
var hostControllers = []string{"memory", "cpu", "pids"}

// groupPath returns the path of the control group below the mount of each v1
// hierarchy, or nothing on a host where v1 has no limit on memory. group is the
// group's directory in v2, and may be nil.
func groupPath(group *os.File) string {
	if group == nil {
		return ""
	}
	mounts, err := cgroupfs.Find()
	if err != nil || mounts.V1["memory"] == "" {
		return ""
	}
	path, ok := strings.CutPrefix(group.Name(), mounts.Unified)
	if !ok || !filepath.IsAbs(path) {
		return ""
	}
	if _, err := os.Stat(filepath.Join(mounts.V1["memory"], path)); err != nil {
		return ""
	}
	return path
}

// groupPatience bounds how long the stubs of a sentry that has ended stay in their
// groups.
const (
	groupPatience = 5 * time.Second
	groupPoll     = 5 * time.Millisecond
)

// removeGroups removes the groups at path that runsc has made. Those of the host stay.
// It waits for the processes in them for the time patience.
func removeGroups(path string, patience time.Duration) error {
	if path == "" {
		return nil
	}
	mounts, err := cgroupfs.Find()
	if err != nil {
		return err
	}
	var hosts []string
	for _, c := range hostControllers {
		hosts = append(hosts, mounts.V1[c])
	}
	var errs []error
	for mount := range maps.Values(mounts.V1) {
		if !slices.Contains(hosts, mount) {
			errs = append(errs, removeGroup(filepath.Join(mount, path), patience))
		}
	}
	return errors.Join(errs...)
}

func removeGroup(dir string, patience time.Duration) error {
	for end := time.Now().Add(patience); ; time.Sleep(groupPoll) {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return &os.PathError{Op: "rmdir", Path: dir, Err: err}
		}
	}
}
