package doctor

import (
	"context"
	"os/exec"
	"regexp"
	"strconv"

	"github.com/wrenn-dev/wrenn/internal/host/vmm/kvmprobe"
)

func checkKVM(r kvmprobe.Report) Check {
	c := Check{Name: "kvm", Status: OK, Found: string(r.Support), Detail: r.Reason}
	switch r.Support {
	case kvmprobe.Hardware:
	case kvmprobe.NestedSlow:
		c.Status = Warn
	default:
		// Emulation is a way to run sandboxes, so this alone fails nothing.
		c.Status = Warn
		if r.Stage == kvmprobe.StageOpen && r.CPUFlag != "" && len(r.Modules) == 0 {
			c.Fix = "modprobe " + map[string]string{"vmx": "kvm_intel", "svm": "kvm_amd"}[r.CPUFlag]
		}
	}
	return c
}

func checkAcceleration(policy kvmprobe.Policy, r kvmprobe.Report) Check {
	c := Check{Name: "acceleration", Status: OK}
	acceleration, _, err := kvmprobe.Choose(policy, r)
	switch {
	case err != nil:
		c.Status, c.Found = Fail, "none"
		c.Detail = err.Error()
	case acceleration == "kvm":
		c.Found = "kvm, isolation: hardware"
	default:
		c.Status, c.Found = Warn, "tcg, isolation: process"
		c.Detail = "software emulation runs any code, some 10 to 20 times slower, but is not a hardware security boundary: " +
			"what separates sandboxes from this machine is the VMM process's confinement"
	}
	return c
}

// Versions of QEMU that decide the outcome.
var (
	qemuSafe   = [2]int{8, 2} // maps shared memory files so that VMs cannot write them
	qemuOldest = [2]int{7, 2}
)

// defaultQEMU is looked up in PATH.
const defaultQEMU = "qemu-system-x86_64"

func checkQEMU(ctx context.Context, binary string) Check {
	c := Check{Name: "qemu", Status: OK}
	path, err := exec.LookPath(binary)
	if err != nil {
		c.Status, c.Found, c.Fix, c.missing = Fail, binary+" not found", installQEMU(), true
		return c
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		c.Status, c.Found = Fail, path+" does not run: "+err.Error()
		return c
	}
	return judgeQEMU(c, string(out))
}

var qemuVersion = regexp.MustCompile(`version (\d+)\.(\d+)`)

// judgeQEMU decides by the first line that QEMU prints for --version.
func judgeQEMU(c Check, text string) Check {
	m := qemuVersion.FindStringSubmatch(text)
	if m == nil {
		c.Status, c.Found = Fail, "no version of QEMU"
		return c
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	c.Status, c.Found = OK, "version "+m[1]+"."+m[2]
	switch have := [2]int{major, minor}; {
	case older(have, qemuOldest):
		c.Status, c.Fix = Fail, installQEMU()
		c.Detail = "7.2 is the oldest that works, 8.2 the oldest for more than one tenant"
	case older(have, qemuSafe):
		c.Status, c.Fix = Warn, installQEMU()
		c.Detail = "for a single tenant only: before 8.2 QEMU opens memory files that sandboxes share for writing"
	}
	return c
}

func older(a, b [2]int) bool { return a[0] < b[0] || a[0] == b[0] && a[1] < b[1] }
