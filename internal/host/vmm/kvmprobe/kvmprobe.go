// Package kvmprobe finds out whether a stock kernel really runs under
// /dev/kvm on this host.
//
// That /dev/kvm opens proves little: on hosts that offer KVM without hardware
// behind it, kernel-mode guest code goes through an instruction emulator a
// thousand times slower than hardware, so that an ordinary guest looks hung.
// The probe therefore times a small 64-bit guest at privilege level 0, in a
// child process that is killed after ten seconds, because KVM_RUN may block on a
// bad host.
//
// The host agent calls it when it starts, doctor when asked. It never starts a
// real guest and never changes the host. Every main function (and TestMain)
// whose process may probe calls MaybeChild before anything else.
package kvmprobe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Support is the quality of KVM on this host.
type Support string

// The values of Support.
const (
	// Hardware: guest code runs on the processor itself.
	Hardware Support = "hw"
	// NestedSlow: it works, through a slow layer below (such as KVM inside an
	// emulated machine).
	NestedSlow Support = "nested-slow"
	// Emulated: KVM answers, but a stock kernel would crawl or hang.
	Emulated Support = "emulated"
	// None: there is no usable /dev/kvm.
	None Support = "none"
)

// Usable reports whether VMs should run under KVM.
func (v Support) Usable() bool { return v == Hardware || v == NestedSlow }

// Report holds the probe's results. Fields that were not reached are zero.
type Report struct {
	Support Support `json:"verdict"`
	// Reason is a sentence for the operator.
	Reason string `json:"reason"`
	// Stage is the last step the probe began, for diagnosis.
	Stage Stage `json:"stage"`
	// CPUFlag is "vmx" or "svm" when the processor offers it.
	CPUFlag string `json:"cpu_flag,omitempty"`
	// Modules are the KVM back ends seen in /sys/module.
	Modules []string `json:"modules,omitempty"`
	// TSCkHz is the rate of the host's time stamp counter as KVM knows it.
	TSCkHz uint64 `json:"tsc_khz,omitempty"`
	// LoopMicros is how long the turns of the guest's loop took, the best of at most
	// maxLoops tries: loopCount turns, or shortCount if CPUFlag is empty.
	LoopMicros int64 `json:"loop_micros,omitempty"`
}

// Stage is a step of the probe.
type Stage string

// The stages in their order.
const (
	StageOpen   Stage = "open"
	StageCaps   Stage = "capabilities"
	StageCreate Stage = "create"
	StageRun    Stage = "run"
	StageDone   Stage = "done"
	childArg          = "__kvmprobe"
	// childVariable marks the environment of the probe's child. A program that
	// does not call MaybeChild would run as itself there, and probe again in a
	// child of its own, without end.
	childVariable = "WRENN_KVMPROBE_CHILD"
	maxChildText  = 64 << 10
)

// limit bounds the child. It is milliseconds on hardware and where there is none, and
// up to a second for each try where guest code is emulated although the processor offers
// more. But on a busy machine, the first virtual machine since the module was loaded has
// been seen to take more than a second, and a false result would cost every sandbox its
// hardware isolation.
const limit = 10 * time.Second

// MaybeChild turns this process into the probe's child, and does not return,
// when it was started as one. Call it first in main.
func MaybeChild() {
	if len(os.Args) != 2 || os.Args[1] != childArg {
		return
	}
	_ = os.Unsetenv(childVariable)
	enc := json.NewEncoder(os.Stdout)
	probeHere(func(r Report) { _ = enc.Encode(r) })
	os.Exit(0)
}

// Probe runs the probe in a child process and returns within about ten seconds,
// or when ctx ends if that is sooner. The Report is always
// complete; its Reason names a failure.
func Probe(ctx context.Context) Report {
	if runtime.GOARCH != "amd64" {
		return Report{Support: None, Reason: "the probe knows x86-64 only; this host is " + runtime.GOARCH, Stage: StageOpen}
	}
	if os.Getenv(childVariable) != "" {
		return Report{Support: None, Stage: StageOpen, Reason: "KVM was not probed: this process is the child of a probe, and does not call MaybeChild"}
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "/proc/self/exe", childArg)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), childVariable+"=1")
	cmd.Stdout = &capped{buf: &out, left: maxChildText}
	cmd.WaitDelay = time.Second / 4
	err := cmd.Run()
	report, ok := lastReport(out.Bytes())
	switch {
	case ok && report.Stage == StageDone:
		return report
	case ok && ctx.Err() != nil:
		return unfinished(report)
	default:
		return Report{
			Support: None, Stage: report.Stage,
			Reason: fmt.Sprintf("the KVM probe's child process ended without an answer (%v)", errors.Join(err, ctx.Err())),
		}
	}
}

// unfinished is the report on a child that had to be killed.
func unfinished(r Report) Report {
	r.Support = None
	r.Reason = fmt.Sprintf("/dev/kvm blocked in the %q step", r.Stage)
	if r.Stage == StageRun {
		r.Support = Emulated
		r.Reason = fmt.Sprintf("a %d-turn loop in a KVM guest did not end within %v", loopCount, limit)
	}
	return r
}

// lastReport returns the last complete report of the child, which writes one
// at each stage.
func lastReport(text []byte) (Report, bool) {
	var last Report
	found := false
	dec := json.NewDecoder(bytes.NewReader(text))
	for {
		var r Report
		if err := dec.Decode(&r); err != nil {
			return last, found
		}
		last, found = r, true
	}
}

// capped keeps the first bytes that are written to it and drops the rest.
type capped struct {
	buf  *bytes.Buffer
	left int
}

func (c *capped) Write(p []byte) (int, error) {
	keep := min(len(p), c.left)
	c.buf.Write(p[:keep])
	c.left -= keep
	return len(p), nil
}

// Policy is the operator's wish.
type Policy string

// The policies.
const (
	Auto Policy = "auto" // KVM where it is usable, else emulation
	KVM  Policy = "kvm"  // KVM or fail
	TCG  Policy = "tcg"  // emulation
)

// Choose decides, once per host and for all its sandboxes, how guest
// instructions run: "kvm" or "tcg", with a sentence that says why. It fails
// with fault.Unsupported where KVM is required but not usable, and with
// fault.Invalid for an unknown policy.
func Choose(policy Policy, r Report) (acceleration, reason string, err error) {
	switch policy {
	case TCG:
		return "tcg", "software emulation was asked for", nil
	case Auto, "":
		if r.Support.Usable() {
			return "kvm", r.Reason, nil
		}
		return "tcg", r.Reason, nil
	case KVM:
		if r.Support.Usable() {
			return "kvm", r.Reason, nil
		}
		return "", "", fault.New(fault.Unsupported, "kvm_unusable", "KVM is required but not usable on this host: %s", r.Reason)
	default:
		return "", "", fault.New(fault.Invalid, "bad_acceleration", "acceleration must be auto, kvm or tcg, not %q", policy)
	}
}
