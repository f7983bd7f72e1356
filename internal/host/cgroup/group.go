package cgroup

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Limits bound a group. A zero field sets no limit.
type Limits struct {
	MemoryBytes int64
	CPUs        float64 // CPU seconds per second
	PIDs        int     // processes and threads
}

// period is the time over which a CPU limit holds, in microseconds; the kernel
// refuses quotas below quotaMin.
const (
	period   = 100_000
	quotaMin = 1_000
)

// Group is the control group of one VMM, a directory in each hierarchy. Where
// control groups are not used it has none and its methods do nothing.
type Group struct {
	// Constant after Create or Adopt.
	unified string            // directory in v2, or ""
	v1      map[string]string // controller to directory
	dir     *os.File          // of unified; closed by Remove
}

func (g *Group) dirs() []string { return distinct(g.unified, g.v1) }

// forgetMissing drops the extras that the group was made without: the agent that
// made it did not use them, or the host did not have them then. Their absence does
// not mean that the VM has lost its group.
func (g *Group) forgetMissing() {
	for _, c := range extras {
		if _, err := os.Stat(g.v1[c]); errors.Is(err, fs.ErrNotExist) {
			delete(g.v1, c)
		}
	}
}

func (g *Group) open() error {
	if g.unified == "" {
		return nil
	}
	dir, err := os.Open(g.unified)
	if err != nil {
		return fault.Wrap(err, fault.HostFailed, "cgroup_failed", "the sandbox's control group cannot be opened")
	}
	g.dir = dir
	return nil
}

// Dir is the open cgroup v2 directory for SysProcAttr.CgroupFD, valid until
// Remove; nil where there is none. It may be one without controllers: then
// the process joins the v1 groups of the same path, or Add puts it under the limits.
func (g *Group) Dir() *os.File { return g.dir }

// limit writes the limits to the controllers that enforce them.
func (g *Group) limit(l Limits, enforced []string) error {
	for _, c := range enforced {
		dir, settings := g.unified, v2Settings(c, l)
		if g.v1[c] != "" {
			dir, settings = g.v1[c], v1Settings(c, l)
		}
		for _, s := range settings {
			err := write(dir, s.file, s.value)
			if s.optional && errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return fault.Wrap(err, fault.HostFailed, "cgroup_limit_failed", "the sandbox's limit on %s cannot be set", c)
			}
		}
	}
	return nil
}

// setting is one file of a controller. An optional one exists only in some
// kernels (swap accounting may be off).
type setting struct {
	file, value string
	optional    bool
}

// v2Settings are those of the kernel's admin-guide/cgroup-v2.
func v2Settings(controller string, l Limits) []setting {
	switch {
	case controller == "memory" && l.MemoryBytes > 0:
		return []setting{
			{"memory.max", strconv.FormatInt(l.MemoryBytes, 10), false},
			{"memory.swap.max", "0", true},
			{"memory.oom.group", "1", true},
		}
	case controller == "cpu" && l.CPUs > 0:
		return []setting{{"cpu.max", quota(l.CPUs) + " " + strconv.Itoa(period), false}}
	case controller == "pids" && l.PIDs > 0:
		return []setting{{"pids.max", strconv.Itoa(l.PIDs), false}}
	}
	return nil
}

// v1Settings are those of the kernel's admin-guide/cgroup-v1. The limit on
// memory and swap together can only be set after the one on memory.
func v1Settings(controller string, l Limits) []setting {
	switch {
	case controller == "memory" && l.MemoryBytes > 0:
		bytes := strconv.FormatInt(l.MemoryBytes, 10)
		return []setting{{"memory.limit_in_bytes", bytes, false}, {"memory.memsw.limit_in_bytes", bytes, true}}
	case controller == "cpu" && l.CPUs > 0:
		return []setting{
			{"cpu.cfs_period_us", strconv.Itoa(period), false},
			{"cpu.cfs_quota_us", quota(l.CPUs), false},
		}
	case controller == "pids" && l.PIDs > 0:
		return []setting{{"pids.max", strconv.Itoa(l.PIDs), false}}
	}
	return nil
}

func quota(cpus float64) string {
	return strconv.FormatInt(max(quotaMin, int64(math.Ceil(cpus*period))), 10)
}

// Add moves a process into the group, in every hierarchy where it is not in it already.
// The drivers start VM processes in their groups, so that Add has to move none: the
// kernel lets all forks of the host end before it moves a process, which takes 10 ms or
// more for each hierarchy.
func (g *Group) Add(pid int) error {
	id := strconv.Itoa(pid)
	for _, dir := range g.dirs() {
		members, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err == nil && !slices.Contains(strings.Fields(string(members)), id) {
			err = write(dir, "cgroup.procs", id)
		}
		if err != nil {
			return fault.Wrap(err, fault.HostFailed, "cgroup_add_failed", "the VM process cannot be moved into its control group")
		}
	}
	return nil
}

// Weights of a group against its siblings, as cpu.weight of cgroup v2 counts
// them; v1 counts in cpu.shares, of which 1024 are a weight of 100.
const (
	weightNormal     = 100
	weightBackground = 5
	sharesPerWeight  = 1024.0 / weightNormal
)

// ioWeight is the file with the group's weight for disk I/O, which counts like
// cpu.weight from 100 down, or "" where groups have none.
func (g *Group) ioWeight() string {
	if dir := g.v1["blkio"]; dir != "" {
		return weightFile(dir)
	}
	return weightFile(g.unified)
}

// weightFile is the file of dir with a weight for disk I/O: of cgroup v2, of its
// BFQ scheduler, or of the same in v1.
func weightFile(dir string) string {
	for _, name := range []string{"io.weight", "io.bfq.weight", "blkio.bfq.weight"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); dir != "" && err == nil {
			return path
		}
	}
	return ""
}

// Background has the group's processes wait for those of other groups where CPU
// or disks are short, or ends that. Without a controller for either it does nothing.
func (g *Group) Background(on bool) error {
	weight := weightNormal
	if on {
		weight = weightBackground
	}
	var err error
	switch {
	case g.v1["cpu"] != "":
		err = write(g.v1["cpu"], "cpu.shares", strconv.Itoa(int(float64(weight)*sharesPerWeight)))
	case g.unified != "":
		err = write(g.unified, "cpu.weight", strconv.Itoa(weight))
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if file := g.ioWeight(); file != "" && err == nil {
		err = write(filepath.Dir(file), filepath.Base(file), strconv.Itoa(weight))
	}
	if err == nil {
		return nil
	}
	return fault.Wrap(err, fault.HostFailed, "cgroup_weight_failed", "the weight of a VM's control group cannot be set")
}

// OOMKilled reports whether the kernel has ever killed a process of the group
// because the group was out of memory.
func (g *Group) OOMKilled() bool {
	path := filepath.Join(g.unified, "memory.events")
	if dir := g.v1["memory"]; dir != "" {
		path = filepath.Join(dir, "memory.oom_control")
	}
	n, _ := field(path, "oom_kill")
	return n > 0
}

// Remove removes the group, which must have no processes left: it fails with
// fault.WrongState otherwise. A group that is gone is success.
func (g *Group) Remove() error {
	if g.dir != nil {
		_ = g.dir.Close()
	}
	var errs []error
	for _, dir := range g.dirs() {
		switch err := rmdir(dir); {
		case err == nil:
		case isBusy(err):
			errs = append(errs, fault.Wrap(err, fault.WrongState, "cgroup_busy", "the sandbox's control group still has processes"))
		default:
			errs = append(errs, fault.Wrap(err, fault.HostFailed, "cgroup_not_removed", "the sandbox's control group cannot be removed"))
		}
	}
	return errors.Join(errs...)
}

// members lists the processes of the group in all its hierarchies.
func (g *Group) members() ([]int, error) {
	var pids []int
	for _, dir := range g.dirs() {
		text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			continue
		}
		if err != nil {
			return nil, fault.Wrap(err, fault.HostFailed, "cgroup_unreadable", "the sandbox's control group cannot be read")
		}
		for _, word := range strings.Fields(string(text)) {
			// 0 stands for a process outside this PID namespace.
			if pid, err := strconv.Atoi(word); err == nil && pid > 0 && !slices.Contains(pids, pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// write sets one file of a group. It never creates one.
func write(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// field reads the number after name in a file of "name number" lines.
func field(path, name string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && key == name {
			return strconv.ParseInt(value, 10, 64)
		}
	}
	return 0, fs.ErrNotExist
}

func rmdir(dir string) error {
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

func isBusy(err error) bool { return errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOTEMPTY) }
