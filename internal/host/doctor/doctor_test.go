package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/datafs"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/kvmprobe"
)

func TestMain(m *testing.M) {
	kvmprobe.MaybeChild()
	os.Exit(m.Run())
}

func TestRunIsQuickAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	began := time.Now()
	checks := Run(t.Context(), Config{
		Data:     datafs.Place{Image: filepath.Join(dir, "not", "there.xfs"), Dir: filepath.Join(dir, "not", "there")},
		ImageDir: filepath.Join(dir, "images"),
	})
	t.Logf("%v\n%s", time.Since(began), Text(checks))
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("took %v", took)
	}
	seen := map[string]bool{}
	for _, c := range checks {
		if c.Name == "" || c.Found == "" || seen[c.Name] {
			t.Errorf("a check without a name of its own or a finding: %+v", c)
		}
		seen[c.Name] = true
		if c.Status == OK && c.Fix != "" {
			t.Errorf("%s is well but has a fix: %s", c.Name, c.Fix)
		}
	}
	for _, name := range []string{
		"system", "rights", "kvm", "acceleration", "gvisor", "runtime", "qemu", "kept builds", "tap devices", "network", "control groups", "tasks", "port",
		"data directory", "free space", "memory", "processors", "guest kernel", "templates",
		"postgresql", "mmdebstrap", "mkfs.erofs", "mke2fs", "mkfs.xfs",
	} {
		if !seen[name] {
			t.Errorf("nobody looked at %q", name)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if !Failed(checks) {
		t.Error("a machine without a guest kernel counts as ready")
	}
}

func TestJudgeQEMU(t *testing.T) {
	for text, want := range map[string]Status{
		"QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)": OK,
		"QEMU emulator version 8.2.0":                         OK,
		"QEMU emulator version 8.1.9":                         Warn,
		"QEMU emulator version 7.2.22":                        Warn,
		"QEMU emulator version 7.1.0":                         Fail,
		"bash: not found":                                     Fail,
	} {
		if got := judgeQEMU(Check{}, text); got.Status != want || (want == Warn) != strings.Contains(got.Detail, "single tenant") {
			t.Errorf("%q: %+v, want %s", text, got, want)
		}
	}
}

func TestAcceleration(t *testing.T) {
	for _, c := range []struct {
		policy  kvmprobe.Policy
		support kvmprobe.Support
		want    Status
		says    string
	}{
		{kvmprobe.Auto, kvmprobe.Hardware, OK, "hardware"},
		{kvmprobe.Auto, kvmprobe.Emulated, Warn, "not a hardware security boundary"},
		{kvmprobe.TCG, kvmprobe.Hardware, Warn, "not a hardware security boundary"},
		{kvmprobe.KVM, kvmprobe.None, Fail, "because"},
	} {
		got := checkAcceleration(c.policy, kvmprobe.Report{Support: c.support, Reason: "because"})
		if got.Status != c.want || !strings.Contains(got.Found+got.Detail, c.says) {
			t.Errorf("%s on %s: %+v", c.policy, c.support, got)
		}
	}
}

func TestProcFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if got := osName(file("os", "ID=x\nPRETTY_NAME=\"Debian 13\"\n")); got != "Debian 13" {
		t.Errorf("os-release: %q", got)
	}
	if got := effectiveCaps(file("status", "CapPrm:\t0f\nCapEff:\t0000000000001000\n")); got != 1<<12 {
		t.Errorf("status: %x", got)
	}
	if !legacyFilter(file("names", "nat\nfilter\n")) || legacyFilter(file("nonames", "")) {
		t.Error("iptables tables are read wrongly")
	}
}

func TestNearest(t *testing.T) {
	dir := t.TempDir()
	if got, err := nearest(filepath.Join(dir, "a", "b")); err != nil || got != dir {
		t.Errorf("nearest: %q %v, want %q", got, err, dir)
	}
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := nearest(path); err == nil {
		t.Error("a file was taken for a directory")
	}
}
