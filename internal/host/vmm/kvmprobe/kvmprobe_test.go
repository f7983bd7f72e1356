package kvmprobe

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

func TestMain(m *testing.M) {
	MaybeChild()
	os.Exit(m.Run())
}

func TestStructsHaveTheKernelsSizes(t *testing.T) {
	for name, c := range map[string]struct{ got, want uintptr }{
		"kvm_userspace_memory_region": {unsafe.Sizeof(memoryRegion{}), 32},
		"kvm_segment":                 {unsafe.Sizeof(segment{}), 24},
		"kvm_sregs":                   {unsafe.Sizeof(sregs{}), 0x138},
		"kvm_regs":                    {unsafe.Sizeof(regs{}), 0x90},
		"kvm_cpuid_entry2":            {unsafe.Sizeof(cpuidEntry{}), 40},
	} {
		if c.got != c.want {
			t.Errorf("%s is %d bytes, want %d", name, c.got, c.want)
		}
	}
}

func TestProbeIsQuickAndConsistent(t *testing.T) {
	began := time.Now()
	r := Probe(t.Context())
	took := time.Since(began)
	t.Logf("%v: %+v", took, r)
	if r.Stage != StageDone || r.Reason == "" {
		t.Fatalf("the probe did not finish: %+v", r)
	}
	if took > limit+time.Second/2 {
		t.Fatalf("the probe took %v", took)
	}
	if r.CPUFlag == "" && r.Support.Usable() {
		t.Fatalf("KVM without vmx or svm judged usable: %+v", r)
	}
	if r.Support != None && (r.LoopMicros <= 0 || r.TSCkHz == 0) {
		t.Fatalf("a result without evidence: %+v", r)
	}
}

func TestProbeEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := Probe(ctx); r.Support.Usable() || r.Reason == "" {
		t.Fatalf("a probe that never ran said %+v", r)
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		took time.Duration
		flag string
		pvm  bool
		want Support
	}{
		{50 * time.Microsecond, "vmx", false, Hardware},
		{50 * time.Microsecond, "svm", false, Hardware},
		{2 * time.Millisecond, "svm", false, NestedSlow},
		{20 * time.Millisecond, "svm", false, NestedSlow},
		{40 * time.Millisecond, "svm", false, NestedSlow},
		{108 * time.Millisecond, "svm", false, Emulated},
		{50 * time.Microsecond, "", false, Emulated},
		{108 * time.Millisecond, "", true, Emulated},
	} {
		if got, reason := judge(c.took, c.flag, c.pvm); got != c.want || reason == "" {
			t.Errorf("judge(%v, %q, %v) = %v %q, want %v", c.took, c.flag, c.pvm, got, reason, c.want)
		}
	}
}

func TestUnfinishedChild(t *testing.T) {
	if r := unfinished(Report{Stage: StageRun}); r.Support != Emulated {
		t.Errorf("blocked in KVM_RUN: %v, want emulated", r.Support)
	}
	if r := unfinished(Report{Stage: StageCreate}); r.Support != None {
		t.Errorf("blocked before KVM_RUN: %v, want none", r.Support)
	}
	if r, ok := lastReport([]byte(`{"stage":"open"}` + "\n" + `{"stage":"run"}` + "\n" + `{"sta`)); !ok || r.Stage != StageRun {
		t.Errorf("last whole report: %+v %v", r, ok)
	}
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		policy  Policy
		support Support
		want    string
		kind    fault.Kind
	}{
		{Auto, Hardware, "kvm", 0}, {Auto, NestedSlow, "kvm", 0}, {Auto, Emulated, "tcg", 0}, {Auto, None, "tcg", 0},
		{"", Hardware, "kvm", 0},
		{KVM, Hardware, "kvm", 0}, {KVM, NestedSlow, "kvm", 0},
		{KVM, Emulated, "", fault.Unsupported}, {KVM, None, "", fault.Unsupported},
		{TCG, Hardware, "tcg", 0}, {TCG, None, "tcg", 0},
		{"xen", Hardware, "", fault.Invalid},
	} {
		got, reason, err := Choose(c.policy, Report{Support: c.support, Reason: "because"})
		if got != c.want {
			t.Errorf("Choose(%q, %s) = %q, want %q", c.policy, c.support, got, c.want)
		}
		if c.want == "" && !fault.Is(err, c.kind) || c.want != "" && (err != nil || reason == "") {
			t.Errorf("Choose(%q, %s): reason %q, error %v", c.policy, c.support, reason, err)
		}
	}
}

func TestCachedIsKeyedByBoot(t *testing.T) {
	dir := t.TempDir()
	boot, kernel, err := thisBoot()
	if err != nil {
		t.Fatal(err)
	}
	planted := Report{Support: NestedSlow, Reason: "planted", Stage: StageDone}
	path := filepath.Join(dir, cacheName)
	if err := store(path, cached{Boot: boot, Kernel: kernel, Report: planted}); err != nil {
		t.Fatal(err)
	}
	got, err := Cached(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if hit := got.Reason == "planted"; hit != deviceOpens() {
		t.Fatalf("cache hit is %v while /dev/kvm opening is %v", hit, deviceOpens())
	}

	if err := store(path, cached{Boot: "another boot", Kernel: kernel, Report: planted}); err != nil {
		t.Fatal(err)
	}
	got, err = Cached(t.Context(), dir)
	if err != nil || got.Reason == "planted" {
		t.Fatalf("a report of another boot was used: %+v %v", got, err)
	}
	if got.Support == None {
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var kept cached
	if err := json.Unmarshal(text, &kept); err != nil || kept.Boot != boot || kept.Report.Support != got.Support {
		t.Fatalf("kept %s (%v), want the new report", text, err)
	}
}

func TestCPUFlag(t *testing.T) {
	for flags, want := range map[string]string{
		"flags\t\t: fpu vmx sse": "vmx", "flags\t\t: fpu svm": "svm", "flags\t\t: fpu vmxoff": "", "model: svm": "",
	} {
		path := filepath.Join(t.TempDir(), "cpuinfo")
		if err := os.WriteFile(path, []byte("processor\t: 0\n"+flags+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := cpuFlag(path); got != want {
			t.Errorf("cpuFlag(%q) = %q, want %q", flags, got, want)
		}
	}
}

// TestChildThatForgotItsRoleProbesNoMore: a program without MaybeChild runs as
// itself in the probe's child, where a probe of its own would start the next.
func TestChildThatForgotItsRoleProbesNoMore(t *testing.T) {
	t.Setenv("WRENN_KVMPROBE_CHILD", "1")
	if r := Probe(t.Context()); !strings.Contains(r.Reason, "MaybeChild") {
		t.Errorf("the probe in a child said %q, want a refusal", r.Reason)
	}
}
