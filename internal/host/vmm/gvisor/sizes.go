package gvisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// The guest's sizes. runsc has no flags for them: it takes the number of CPUs and the
// memory from the control group that it makes for the sandbox, and the size of a file
// system in memory from the host's /proc/meminfo (runsc/sandbox/sandbox.go). Neither
// is the guest's: the host's limits are higher, because the sentry needs memory and
// CPU time of its own and the disk is in memory.
//
// runsc is therefore started in a mount namespace of its own, where it finds other
// numbers: a directory with the files of a control group of cgroups v1, which limit
// nothing, and a /proc/meminfo. The sentry is in the groups of the host in any case:
// it inherits those of the thread that starts runsc. That way runsc changes no control
// group of the host, and the sizes do not depend on the version of control groups.

// cgroupMount is where runsc expects control groups, if the mount table has none.
const cgroupMount = "/sys/fs/cgroup"

// sizesGroup is the path of the group that runsc takes the sizes from.
const sizesGroup = "/sandbox"

// cpuPeriod is the default of cpu.cfs_period_us, in microseconds.
const cpuPeriod = 100_000

// sizesBytes limits the file system with the files.
const sizesBytes = 256 << 10

// sizeFiles returns the files that show the sizes of cfg to runsc: their content by
// their path below the mount of control groups.
func sizeFiles(cfg vmm.Config) map[string]string {
	cpus := max(cfg.VCPUs, leastCPUs)
	files := map[string]string{
		"memory" + sizesGroup + "/memory.limit_in_bytes": strconv.FormatInt(int64(cfg.MemoryMB)<<20, 10),
		"cpuset" + sizesGroup + "/cpuset.cpus":           "0-" + strconv.Itoa(cpus-1),
		"cpu" + sizesGroup + "/cpu.cfs_quota_us":         "-1", // no limit
		"cpu" + sizesGroup + "/cpu.cfs_period_us":        strconv.Itoa(cpuPeriod),
		meminfoFile: fmt.Sprintf("MemTotal: %d kB\n", cfg.MemoryMB<<10),
	}
	for _, controller := range []string{"memory", "cpuset", "cpu"} {
		files[controller+sizesGroup+"/cgroup.procs"] = "" // runsc writes itself into it
	}
	return files
}

// leastCPUs is the least number of CPUs that a sentry gets. It also is the number of
// its own threads that run Go code: with one, a command takes 18 ms instead of 11.
// The guest's Init shows one CPU to user processes nevertheless (WRENN_VCPUS).
const leastCPUs = 2

// meminfoFile covers /proc/meminfo. A file system in memory that a guest mounts without
// a size gets half of MemTotal there.
const meminfoFile = "meminfo"

// showSizes gives the calling thread a mount namespace in which runsc finds the sizes
// of cfg. The thread must end afterwards.
func showSizes(cfg vmm.Config) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	// Mounts that the host removes meanwhile go from here as well.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("separate the mounts: %w", err)
	}
	if err := hideControlGroups(); err != nil {
		return err
	}
	options := fmt.Sprintf("mode=755,size=%d", sizesBytes)
	if err := unix.Mount("sizes", cgroupMount, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return fmt.Errorf("mount the files with the sizes: %w", err)
	}
	for name, text := range sizeFiles(cfg) {
		path := filepath.Join(cgroupMount, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err != nil {
			return fmt.Errorf("write the sizes: %w", err)
		}
	}
	if err := unix.Mount(filepath.Join(cgroupMount, meminfoFile), "/proc/meminfo", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cover /proc/meminfo: %w", err)
	}
	return nil
}

// hideControlGroups unmounts all control groups in the mount namespace of the calling
// thread: runsc uses the first that it finds in the mount table.
func hideControlGroups() error {
	// With all mounts below it, which usually are the others.
	if err := unix.Unmount(cgroupMount, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount the control groups: %w", err)
	}
	left, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return fmt.Errorf("read the mount table: %w", err)
	}
	for _, m := range slices.Backward(left) { // later ones cover earlier ones
		// EINVAL: it was below one that is gone.
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount the control groups at %s: %w", m.Mountpoint, err)
		}
	}
	return nil
}
