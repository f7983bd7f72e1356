package cgroupfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// JoinThread moves the calling thread into the v1 control groups that are at the same
// path below their mounts as group, an open directory of cgroups v2. Processes that the
// thread starts are born there. Moving a process later takes the kernel 10 ms or more for
// each hierarchy, because it waits until no process forks. The thread must end afterwards.
//
// JoinThread does nothing if group is nil, and skips hierarchies without such a group. It
// finds the mounts in the mount namespace of the thread.
func JoinThread(group *os.File) error {
	if group == nil {
		return nil
	}
	mounts, err := Find()
	if err != nil {
		return fmt.Errorf("find the control groups: %w", err)
	}
	path, ok := strings.CutPrefix(group.Name(), mounts.Unified)
	if !ok || !filepath.IsAbs(path) {
		return nil
	}
	joined := make(map[string]bool)
	for _, mount := range mounts.V1 { // controllers can share a hierarchy
		dir := filepath.Join(mount, path)
		if joined[dir] {
			continue
		}
		joined[dir] = true
		if err := joinTasks(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("join a control group: %w", err)
		}
	}
	return nil
}

// joinTasks moves the calling thread into the v1 control group dir.
func joinTasks(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "tasks"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	// 0 stands for the calling thread (admin-guide/cgroup-v1/cgroups.rst).
	_, err = f.WriteString("0")
	return errors.Join(err, f.Close())
}
