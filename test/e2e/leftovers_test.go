package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// nothingLeft checks that a server that has ended, all of its sandboxes
// destroyed, has left nothing on the machine. It kills the processes that it
// finds, so that one failure does not cause others.
func nothingLeft(t testing.TB, dir, name string) {
	t.Helper()
	for _, pid := range processesOf(dir) {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		t.Errorf("process %d is left: %.300q", pid, cmdline)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	for _, pattern := range []string{
		dir + "/host/sandboxes/*", // disks, snapshots, journals
		dir + "/host/builds/*",    // template snapshots being made
		dir + "/host/snapshots/*", // snapshots; see destroyAll
		dir + "/host/snapshots/.*",
		"/run/netns/" + name + "-*",
		"/run/netns-" + name,
		"/sys/class/net/" + name + "-*",
		"/sys/fs/cgroup/" + name,
		"/sys/fs/cgroup/*/" + name,
	} {
		found, err := filepath.Glob(pattern)
		check(t, err)
		if len(found) > 0 {
			t.Errorf("left: %v", found)
		}
	}
	if line := lineWith(string(output(t, "nft", "list", "tables")), name); line != "" {
		t.Errorf("an nft table is left: %s", line)
	}
	// A file system of its own stays mounted when a server ends, since VMs may
	// use it. EINVAL is for a directory that is none, ENOENT for one that is gone.
	if err := unix.Unmount(filepath.Join(dir, "host"), 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		t.Errorf("unmount the data of %s: %v", dir, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	check(t, err)
	for _, part := range []string{dir + "/", "/run/netns/" + name + "-", "/run/netns-" + name} {
		if line := lineWith(string(mounts), part); line != "" {
			t.Errorf("a mount is left: %s", line)
		}
	}
}

// processesOf returns the processes that belong to a data directory: those
// that work in it, name it in their command line or carry it as a mark.
func processesOf(dir string) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		cwd, _ := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		cmdline, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if strings.HasPrefix(cwd, dir) || strings.Contains(string(cmdline), dir) || markOf(pid) != "" && strings.HasPrefix(markOf(pid), dir) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// markOf returns the directory that a VM process carries: QEMU's in its environment,
// gVisor's in its command line.
func markOf(pid int) string {
	cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if args := strings.Split(string(cmdline), "\x00"); args[0] == "runsc-sandbox" {
		for _, arg := range args {
			if dir, ok := strings.CutPrefix(arg, "--root="); ok {
				return dir
			}
		}
	}
	env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	for entry := range strings.SplitSeq(string(env), "\x00") {
		if mark, ok := strings.CutPrefix(entry, "WRENN_VM_DIR="); ok {
			return mark
		}
	}
	return ""
}

// vmOf returns the VM process of a sandbox, 0 if there is none.
func vmOf(dir, id string) int {
	for _, pid := range processesOf(filepath.Join(dir, "host", "sandboxes", id)) {
		if strings.HasPrefix(markOf(pid), filepath.Join(dir, "host", "sandboxes", id)+"/") {
			return pid
		}
	}
	return 0
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

func output(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return out
}
