package qemu

import (
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

func testDriver(a vmm.Acceleration) *Driver {
	return &Driver{tscKHz: 2596138, boot: Boot{Kernel: "/k", Initrd: "/i", Cmdline: "extra=1"}, info: vmm.Info{Acceleration: a}}
}

var testConfig = vmm.Config{
	ID: "abc", Dir: "/d/vm", VCPUs: 2, MemoryMB: 512,
	RootImage: "/root,1.erofs", Disk: "/d/disk", Network: vmm.Network{MAC: "02:00:00:00:00:01"},
}

func TestArgvPerAcceleration(t *testing.T) {
	tcg := strings.Join(testDriver(vmm.TCG).argv(version{10, 0, 2}, testConfig, false), " ")
	for _, want := range []string{
		"-accel tcg,tb-size=128", "tsc_early_khz=2596138", "share=off,readonly=on,rom=off", "-cpu max",
		"filename=/dev/fdset/3,read-only=on", "filename=/dev/fdset/4,", "mem-path=/memory,", "-sandbox on", "-no-reboot", "extra=1", "-m 512", "-smp 2",
	} {
		if !strings.Contains(tcg, want) {
			t.Errorf("TCG: %q is missing in %s", want, tcg)
		}
	}
	kvm := strings.Join(testDriver(vmm.KVM).argv(version{10, 0, 2}, testConfig, false), " ")
	for _, unwanted := range []string{"tsc_early_khz", "mitigations=off"} {
		if strings.Contains(kvm, unwanted) {
			t.Errorf("KVM: %q must not be in %s", unwanted, kvm)
		}
	}
	if !strings.Contains(kvm, "-accel kvm,device=/dev/fdset/2 ") || !strings.Contains(kvm, "-add-fd fd=6,set=2") {
		t.Errorf("KVM: /dev/kvm is not handed over in %s", kvm)
	}
	d, v := testDriver(vmm.KVM), version{8, 2, 2}
	if old := strings.Join(d.argv(v, testConfig, false), " "); !strings.Contains(old, "-accel kvm -") || strings.Contains(old, "fd=6") {
		t.Errorf("QEMU 8.2 opens /dev/kvm itself: %s", old)
	}
	old := strings.Join(testDriver(vmm.TCG).argv(version{7, 2, 0}, testConfig, false), " ")
	if strings.Contains(old, "rom=off") {
		t.Error("QEMU 7.2 does not know rom=off")
	}
	oldRestore := strings.Join(testDriver(vmm.TCG).argv(version{7, 2, 0}, testConfig, true), " ")
	if strings.Contains(oldRestore, "fd=5") {
		t.Errorf("QEMU 7.2 loads from descriptor 5 itself, which -add-fd closes: %s", oldRestore)
	}
}

// TestRestoreHasTheSameDevices: device state is matched by order and name.
func TestRestoreHasTheSameDevices(t *testing.T) {
	d, v := testDriver(vmm.TCG), version{10, 0, 2}
	devices := func(args []string) (out []string) {
		for i, a := range args {
			if a == "-device" || a == "-M" || a == "-cpu" || a == "-smp" || a == "-m" || a == "-serial" {
				out = append(out, a+" "+args[i+1])
			}
		}
		return out
	}
	start, restore := devices(d.argv(v, testConfig, false)), devices(d.argv(v, testConfig, true))
	if strings.Join(start, "\n") != strings.Join(restore, "\n") {
		t.Fatalf("start has\n%v\nrestore has\n%v", start, restore)
	}
	if joined := strings.Join(d.argv(v, testConfig, true), " "); strings.Contains(joined, "-kernel") || !strings.Contains(joined, "-S") {
		t.Fatalf("a restore must have no kernel and start stopped: %s", joined)
	}
}

func TestParseVersion(t *testing.T) {
	v, err := parseVersion([]byte("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\nCopyright"))
	if err != nil || v != (version{10, 0, 2}) || !v.atLeast(8, 2) || v.atLeast(10, 1) {
		t.Fatalf("%v %v", v, err)
	}
	if _, err := parseVersion([]byte("no such thing")); err == nil {
		t.Fatal("nonsense was taken for a version")
	}
}

func TestMultiTenantNeedsHardware(t *testing.T) {
	for _, c := range []struct {
		acceleration vmm.Acceleration
		version      version
		want         bool
	}{
		{vmm.KVM, version{10, 0, 2}, true},
		{vmm.KVM, version{8, 2, 0}, true},
		{vmm.KVM, version{7, 2, 22}, false}, // it writes shared memory files
		{vmm.TCG, version{10, 0, 2}, false},
		{vmm.TCG, version{7, 2, 22}, false},
	} {
		if got := multiTenant(c.acceleration, c.version); got != c.want {
			t.Errorf("QEMU %s under %s: multi_tenant is %v, want %v", c.version, c.acceleration, got, c.want)
		}
	}
}
