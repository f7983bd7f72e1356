// Package cgroupfs finds the control group file systems that are mounted in the
// calling process's mount namespace, and reads and watches the memory of a group.
//
// It makes no group. Package host/cgroup builds on it, as do
// tests that need a hierarchy to write to. A host has the unified hierarchy
// (cgroups v2), one hierarchy for each controller or set of them (v1), or both.
package cgroupfs

import (
	"io"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// Mounts holds the mount points of the writable hierarchies. Where one is mounted
// twice, the first mount counts.
type Mounts struct {
	// Unified is the mount point of cgroups v2; empty if it is not mounted.
	Unified string
	// V1 maps a v1 controller, such as "memory", to the mount point of the
	// hierarchy that has it. A named hierarchy is under "name=NAME".
	V1 map[string]string
}

// Find reads the mount table of the calling thread.
func Find() (Mounts, error) {
	table, err := mountinfo.GetMounts(notWritable)
	return collect(table), err
}

// Parse reads a mount table in the format of proc_pid_mountinfo(5).
func Parse(table io.Reader) (Mounts, error) {
	mounts, err := mountinfo.GetMountsFromReader(table, notWritable)
	return collect(mounts), err
}

// notWritable leaves out all mounts but those of writable control group file
// systems.
func notWritable(m *mountinfo.Info) (skip, stop bool) {
	writable := !slices.Contains(strings.Split(m.Options, ","), "ro")
	return !writable || m.FSType != "cgroup" && m.FSType != "cgroup2", false
}

func collect(table []*mountinfo.Info) Mounts {
	found := Mounts{V1: make(map[string]string)}
	for _, m := range table {
		if m.FSType == "cgroup2" {
			if found.Unified == "" {
				found.Unified = m.Mountpoint
			}
			continue
		}
		// The options of a v1 file system name its controllers.
		for option := range strings.SplitSeq(m.VFSOptions, ",") {
			if found.V1[option] == "" {
				found.V1[option] = m.Mountpoint
			}
		}
	}
	return found
}
