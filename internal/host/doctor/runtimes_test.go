package doctor

import (
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/kvmprobe"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/runsc"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

var (
	usable = kvmprobe.Report{Support: kvmprobe.Hardware, Reason: "it works"}
	noKVM  = kvmprobe.Report{Support: kvmprobe.None, Reason: "there is no /dev/kvm"}

	built    = installedRunsc{program: runsc.Installed{Path: "/images/runsc/x/runsc", Version: "v1", Digest: strings.Repeat("ab", 32)}}
	notBuilt = installedRunsc{err: fault.New(fault.Unsupported, "vmm_missing", `runsc has not been built on this host; run "make runsc"`)}
	unusable = installedRunsc{err: fault.New(fault.Unsupported, "vmm_unusable", "it cannot run a sandbox (ptrace: forbidden)")}
	broken   = installedRunsc{err: fault.New(fault.Unsupported, "vmm_version", "/opt/runsc names no version")}
)

func TestGVisorCheckNamesTheBuildOrTheWayToOne(t *testing.T) {
	own, kept := built, built
	own.program.Path, own.program.SidecarNames = "/opt/gvisor/runsc", []string{"gvisor_sentry"}
	kept.kept = true
	for _, c := range []struct {
		cfg   Config
		probe kvmprobe.Report
		in    installedRunsc
		want  Status
		says  string
		fix   string
	}{
		{Config{}, noKVM, built, OK, "runsc v1 (abababababab), built by make runsc", ""},
		{Config{Runsc: "/opt/runsc"}, usable, own, OK, "/opt/gvisor/runsc with its gvisor-bin", ""},
		{Config{}, noKVM, kept, OK, "a kept copy", ""},
		{Config{}, usable, notBuilt, OK, "runsc is not built", ""},
		{Config{}, noKVM, notBuilt, Warn, "10 to 20 times slower", "make runsc"},
		{Config{DataDirFlag: "/srv/my data"}, noKVM, notBuilt, Warn, "not built", "make runsc WRENN_DATA_DIR='/srv/my data'"},
		{Config{Runtime: sandbox.RuntimeGVisor}, usable, notBuilt, Fail, "make runsc", "make runsc"},
		{Config{Runtime: sandbox.RuntimeGVisor, BeforeImages: true}, usable, notBuilt, Warn, "not built", "make runsc"},
		{Config{Runsc: "/opt/runsc", BeforeImages: true}, usable, broken, Fail, "names no version", ""},
		{Config{}, noKVM, unusable, Warn, "ptrace: forbidden", ""},
		{Config{Runtime: sandbox.RuntimeMicroVM}, noKVM, notBuilt, OK, "not built", ""},
		{Config{Runsc: "/opt/runsc"}, usable, broken, Fail, "names no version", ""},
	} {
		got := checkGVisor(c.cfg, c.probe, c.in)
		if got.Status != c.want || !strings.Contains(got.Found+" "+got.Detail, c.says) || got.Fix != c.fix {
			t.Errorf("%+v on %s with %v: got\n%v\nwant %s, %q and the fix %q", c.cfg, c.probe.Support, c.in.err, got, c.want, c.says, c.fix)
		}
	}
}

func TestRuntimeCheckNamesTheChoiceAndItsReason(t *testing.T) {
	const gVisorFirst = "gvisor (systrap, isolation userspace_kernel); also microvm "
	for _, c := range []struct {
		cfg   Config
		probe kvmprobe.Report
		in    installedRunsc
		want  Status
		found string
		says  string
	}{
		{Config{}, noKVM, built, OK, gVisorFirst + "(tcg, isolation process)", "no usable KVM: there is no /dev/kvm; gVisor runs code at native speed"},
		{Config{}, usable, built, OK, "microvm (kvm, isolation hardware); also gvisor (systrap, isolation userspace_kernel)", "KVM is usable"},
		{Config{Runtime: sandbox.RuntimeGVisor}, usable, built, OK, gVisorFirst + "(kvm, isolation hardware)", "--runtime gvisor"},
		{Config{}, noKVM, notBuilt, OK, "microvm (tcg, isolation process)", "the only one"},
		{Config{Acceleration: kvmprobe.KVM}, noKVM, built, Fail, "none", "KVM is required"},
	} {
		got := checkRuntime(c.cfg, c.probe, c.in, Check{Status: OK})
		if got.Status != c.want || got.Found != c.found || !strings.Contains(got.Detail, c.says) {
			t.Errorf("%+v on %s with %v: got\n%v\nwant %s, %q and %q", c.cfg, c.probe.Support, c.in.err, got, c.want, c.found, c.says)
		}
	}
}

// TestQEMUMayBeMissingBesideGVisor: a missing QEMU fails the machine only where sandboxes
// cannot run without it.
func TestQEMUMayBeMissingBesideGVisor(t *testing.T) {
	missing := Check{Name: "qemu", Status: Fail, missing: true}
	for name, c := range map[string]struct {
		qemu Check
		cfg  Config
		in   installedRunsc
		want Status
		says string // by the check of the runtime
	}{
		"gvisor alone":     {missing, Config{QEMU: defaultQEMU, Acceleration: kvmprobe.Auto}, built, Warn, "the only one here; see qemu"},
		"neither":          {missing, Config{QEMU: defaultQEMU, Acceleration: kvmprobe.Auto}, notBuilt, Fail, "see gvisor"},
		"QEMU is named":    {missing, Config{QEMU: "/opt/qemu", Acceleration: kvmprobe.Auto}, built, Fail, "gVisor runs code"},
		"emulation asked":  {missing, Config{QEMU: defaultQEMU, Acceleration: kvmprobe.TCG}, built, Fail, "gVisor runs code"},
		"microvms asked":   {missing, Config{QEMU: defaultQEMU, Acceleration: kvmprobe.Auto, Runtime: sandbox.RuntimeMicroVM}, built, Fail, ""},
		"QEMU is too old":  {Check{Status: Fail}, Config{QEMU: defaultQEMU, Acceleration: kvmprobe.Auto}, built, Fail, "gVisor runs code"},
		"nothing is wrong": {Check{Status: OK}, Config{QEMU: defaultQEMU, Acceleration: kvmprobe.Auto}, built, OK, "gVisor runs code"},
	} {
		got := orGVisor(c.qemu, c.cfg, c.in)
		runtime := checkRuntime(c.cfg, noKVM, c.in, got)
		if got.Status != c.want || !strings.Contains(runtime.Detail, c.says) {
			t.Errorf("%s: qemu is %s, runtime %v; want %s and %q", name, got.Status, runtime, c.want, c.says)
		}
	}
}
