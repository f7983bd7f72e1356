package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/gvisor"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// tasksForMachine is the number of processes and threads that the machine itself
// needs, beside those of sandboxes.
const tasksForMachine = 2048

// diskOvercommit is the default of --disk-overcommit. The disk of a gVisor sandbox is in
// memory, divided by it.
const diskOvercommit = 4

// taskLimits are the limits of the kernel on processes, threads and user namespaces
// (admin-guide/sysctl).
type taskLimits struct{ pidMax, threadsMax, userNamespaces int }

// readTaskLimits reads the limits below dir, which is /proc/sys.
func readTaskLimits(dir string) (l taskLimits, err error) {
	for name, field := range map[string]*int{
		"kernel/pid_max": &l.pidMax, "kernel/threads-max": &l.threadsMax, "user/max_user_namespaces": &l.userNamespaces,
	} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return l, err
		}
		if *field, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
			return l, fmt.Errorf("%s: %w", name, err)
		}
	}
	return l, nil
}

// checkTasks compares the limits with the sandboxes of default size that fit into
// the memory. sentries says that they may be gVisor's.
func checkTasks(sentries bool) Check {
	limits, err := readTaskLimits("/proc/sys")
	memory, memoryErr := proc.ReadMemInfo()
	if err != nil || memoryErr != nil {
		c := Check{Name: "tasks", Status: Warn, Found: "the kernel's limits on processes are unknown"}
		for _, one := range []error{err, memoryErr} {
			if one != nil {
				c.Detail = one.Error()
			}
		}
		return c
	}
	return judgeTasks(limits, int(memory["MemTotal"]>>20), sentries)
}

func judgeTasks(limits taskLimits, memoryMB int, sentries bool) Check {
	c := Check{Name: "tasks", Status: OK}
	spec := sandbox.Spec{}.WithDefaults()
	size, shape := spec.MemoryMB, vmm.Shape{}
	if sentries {
		size += spec.DiskMB / diskOvercommit
		shape.ProcessOverhead = gvisor.ProcessOverhead
	}
	count := max(1, memoryMB/size)
	needed := tasksForMachine + count*shape.HostTasks(spec.MemoryMB, spec.VCPUs)
	allowed, name := limits.pidMax, "kernel.pid_max"
	if limits.threadsMax < allowed {
		allowed, name = limits.threadsMax, "kernel.threads-max"
	}
	c.Found = fmt.Sprintf("%d processes and threads, %d user namespaces", allowed, limits.userNamespaces)
	switch {
	case sentries && limits.userNamespaces < count:
		c.Status = Fail
		c.Detail = fmt.Sprintf("each gVisor sandbox has a user namespace, and the memory has room for %d sandboxes", count)
		c.Fix = setSysctl("user.max_user_namespaces", max(4*count, 4096))
	case allowed < needed:
		c.Status = Warn
		c.Detail = fmt.Sprintf("the memory has room for %d sandboxes, which may have %d tasks; where %s keeps one from starting a thread, it ends", count, needed, name)
		c.Fix = setSysctl(name, 4194304) // the largest pid_max (PID_MAX_LIMIT)
	}
	return c
}

// setSysctl returns the command that sets a parameter of the kernel now and at each
// boot.
func setSysctl(name string, value int) string {
	const file = "/etc/sysctl.d/60-wrenn.conf"
	return fmt.Sprintf("echo '%s = %d' >>%s && sysctl -p %s", name, value, file, file)
}
