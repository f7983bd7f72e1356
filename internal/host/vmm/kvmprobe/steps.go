package kvmprobe

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Turns of the loop, and the times that separate the values of Support. Hardware needs
// about 0.05 ms for loopCount turns, KVM inside an emulated machine 2 to 20
// ms, KVM's instruction emulator more than 100 ms, and KVM without hardware up to a
// second. Where the processor has neither vmx nor svm, the time decides nothing, and
// shortCount turns show that the guest runs.
const (
	warmUpCount = 1_000
	loopCount   = 100_000
	shortCount  = 1_000
	fast        = time.Millisecond
	usable      = 40 * time.Millisecond
)

const apiVersion = 12 // the only one since Linux 2.6.22

// probeHere is the child: it goes through the stages and emits the report at
// the start of each, so that the parent knows where a blocked child stands.
func probeHere(emit func(Report)) {
	// KVM ties a virtual CPU to the thread that last used it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := Report{Support: None, CPUFlag: cpuFlag("/proc/cpuinfo"), Modules: modules("/sys/module")}
	enter := func(s Stage) {
		r.Stage = s
		emit(r)
	}
	r.Support, r.Reason = steps(&r, enter)
	enter(StageDone)
}

// steps stops at the first failure, which it returns as Support and reason.
func steps(r *Report, enter func(Stage)) (Support, string) {
	enter(StageOpen)
	dev, err := unix.Open("/dev/kvm", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return None, openReason(err)
	}
	defer unix.Close(dev)

	enter(StageCaps)
	if reason := missing(dev); reason != "" {
		return None, reason
	}
	cpuid := &cpuidTable{count: 256}
	if err := pointer(dev, kvmGetSupportedCPUID, cpuid); err != nil {
		return None, fmt.Sprintf("KVM does not say which CPU features it supports: %v", err)
	}

	enter(StageCreate)
	g, err := newGuest(dev, cpuid)
	if err != nil {
		return None, "/dev/kvm opens, but " + err.Error()
	}
	defer g.close()
	if khz, err := number(g.vcpu, kvmGetTSCKHz, 0); err == nil && khz > 0 {
		r.TSCkHz = uint64(khz)
	}

	enter(StageRun)
	took, err := bestLoop(g, r.CPUFlag != "")
	if err != nil {
		return None, "a test guest failed under KVM: " + err.Error()
	}
	r.LoopMicros = took.Microseconds()
	return judge(took, r.CPUFlag, pvm(cpuid, r.Modules))
}

// maxLoops bounds the repetitions of a loop that takes too long.
const maxLoops = 10

// bestLoop times the loop: shortCount turns if hardware is false, else loopCount turns. It
// repeats a loop of loopCount turns that is slow, because a busy host may have taken the
// processor away: once if the time shows usable KVM, and up to maxLoops times while it
// does not.
func bestLoop(g *guest, hardware bool) (time.Duration, error) {
	if _, err := g.timeLoop(warmUpCount); err != nil {
		return 0, err
	}
	if !hardware {
		return g.timeLoop(shortCount)
	}
	best, err := g.timeLoop(loopCount)
	for n := 1; err == nil && n < maxLoops && (best > usable || best > fast && n < 2); n++ {
		var took time.Duration
		took, err = g.timeLoop(loopCount)
		best = min(best, took)
	}
	return best, err
}

// judge is the decision table. Hardware KVM cannot exist without vmx or svm,
// so their absence outweighs any time.
func judge(took time.Duration, flag string, isPVM bool) (Support, string) {
	switch {
	case flag == "" && isPVM:
		return Emulated, fmt.Sprintf("this machine's KVM is the software one for PVM guests (no vmx or svm in /proc/cpuinfo; "+
			"%d loop turns took %v): a stock kernel would crawl under it", shortCount, took.Round(time.Millisecond/10))
	case flag == "":
		return Emulated, fmt.Sprintf("/dev/kvm exists, but the processor offers neither vmx nor svm "+
			"(%d loop turns took %v): guest code is emulated", shortCount, took.Round(time.Millisecond/10))
	case took > usable:
		return Emulated, fmt.Sprintf("%d loop turns in a KVM guest took %v, which is emulation, not hardware", loopCount, took.Round(time.Millisecond))
	case took > fast:
		return NestedSlow, fmt.Sprintf("KVM works with %s through a slow layer below (%d loop turns took %v)", flag, loopCount, took.Round(time.Microsecond))
	default:
		return Hardware, fmt.Sprintf("KVM with %s runs guest code on the processor (%d loop turns took %v)", flag, loopCount, took.Round(time.Microsecond))
	}
}

// missing names the missing part of the interface, or returns "".
func missing(dev int) string {
	if v, err := number(dev, kvmGetAPIVersion, 0); err != nil || v != apiVersion {
		return fmt.Sprintf("/dev/kvm answers with API version %d instead of %d (%v)", v, apiVersion, err)
	}
	var absent []string
	for _, c := range requiredCaps {
		if n, err := number(dev, kvmCheckExtension, c.number); err != nil || n <= 0 {
			absent = append(absent, c.name)
		}
	}
	if len(absent) > 0 {
		return "KVM lacks capabilities that hypervisors need: " + strings.Join(absent, ", ")
	}
	return ""
}

// pvm reports positive signs of a PVM host; their absence proves nothing.
func pvm(table *cpuidTable, modules []string) bool {
	const signature = 0x004d5650 // "PVM" in EBX of leaf 0x40000002
	for _, e := range table.entries[:min(int(table.count), len(table.entries))] {
		if e.function == 0x40000002 && e.ebx == signature {
			return true
		}
	}
	return slices.Contains(modules, "kvm_pvm")
}

// openReason says why /dev/kvm did not open and how to fix that.
func openReason(err error) string {
	switch {
	case errors.Is(err, syscall.ENOENT):
		return "there is no /dev/kvm: no KVM module is loaded, or this machine (or container) was given none"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "/dev/kvm may not be opened by this user; add it to the group " + groupOf("/dev/kvm")
	case errors.Is(err, syscall.EBUSY), errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
		return "/dev/kvm is there but not available: another hypervisor holds the processor, or virtualisation is disabled in the firmware"
	default:
		return "/dev/kvm does not open: " + err.Error()
	}
}

func groupOf(path string) string {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return "kvm"
	}
	id := strconv.FormatUint(uint64(st.Gid), 10)
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return id
}

// cpuFlag returns "vmx" or "svm" if the first processor in the file (in the
// format of proc(5) cpuinfo) has it.
func cpuFlag(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) != "flags" {
			continue
		}
		flags := strings.Fields(value)
		for _, f := range []string{"vmx", "svm"} {
			if slices.Contains(flags, f) {
				return f
			}
		}
		return ""
	}
	return ""
}

func modules(dir string) []string {
	var found []string
	for _, m := range []string{"kvm_intel", "kvm_amd", "kvm_pvm"} {
		if _, err := os.Stat(filepath.Join(dir, m)); err == nil {
			found = append(found, m)
		}
	}
	return found
}
