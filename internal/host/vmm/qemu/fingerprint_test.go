package qemu

import (
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/emulator"
)

func TestFingerprintComparison(t *testing.T) {
	for _, a := range []vmm.Acceleration{vmm.TCG, vmm.KVM} {
		d := testDriver(a)
		d.current.Build = emulator.Build{ID: "id", Digest: "binary", Firmware: "roms", Version: "10.0.2"}
		d.cpu = readHostCPU()
		saved, now := d.Fingerprint(testConfig), d.Fingerprint(testConfig)
		if err := vmm.CheckFingerprint(saved, now); err != nil {
			t.Fatal(err)
		}
		now["tsc_khz"], now["tsc_scaling"] = "2600000", ""
		now["vmm_digest"] = "another"
		err := vmm.CheckFingerprint(saved, now)
		if err == nil || !strings.Contains(err.Error(), "vmm_digest") || !strings.Contains(err.Error(), "tsc_khz") {
			t.Fatalf("%s: got %v, want both differences named", a, err)
		}
	}
}

// TestFingerprintHasNoMicrocode: an update of the microcode alone strands
// nothing.
func TestFingerprintHasNoMicrocode(t *testing.T) {
	const cpuinfo = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n" +
		"stepping\t: 1\nmicrocode\t: 0xa101154\ncpu MHz\t\t: 2445.426\n\nprocessor\t: 1\nvendor_id\t: other\n"
	for _, text := range []string{cpuinfo, strings.ReplaceAll(cpuinfo, "0xa101154", "0xa101158")} {
		if got := cpuModelOf(strings.NewReader(text)); got != "AuthenticAMD/25/17/1" {
			t.Errorf("the processor is %q, want AuthenticAMD/25/17/1", got)
		}
	}
}

// TestDevicesAreWhatTheGuestSees: where a disk lies and how its errors are
// handled is the host's affair.
func TestDevicesAreWhatTheGuestSees(t *testing.T) {
	base := []string{"-M", "microvm,acpi=on,memory-backend=mem0", "-device", "virtio-blk-device,drive=d1,id=vdb,werror=report", "-name", "x"}
	same := []string{"-M", "microvm,acpi=on", "-msg", "timestamp=on", "-device", "virtio-blk-device,drive=other,id=vdb,werror=enospc"}
	other := []string{"-M", "microvm,acpi=on", "-device", "virtio-blk-device,id=vdb", "-device", "virtio-balloon-device"}
	if a, b := guestVisible(base), guestVisible(same); !slices.Equal(a, b) {
		t.Errorf("host-only properties are visible: %v and %v", a, b)
	}
	if a, b := guestVisible(base), guestVisible(other); slices.Equal(a, b) {
		t.Errorf("another device is not visible: %v", b)
	}
}

// TestDevicesAreStable: a change of the devices makes every snapshot of every
// host unusable. A change that has to be made changes this value too.
func TestDevicesAreStable(t *testing.T) {
	const want = "e3dc6a57aa8f2767"
	if devicesDigest != want {
		t.Errorf("the devices that guests see have the digest %s, want %s: paused sandboxes cannot be resumed", devicesDigest, want)
	}
}
