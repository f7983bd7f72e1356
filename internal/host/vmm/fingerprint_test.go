package vmm_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// kvmPrint is the fingerprint of a host with KVM.
var kvmPrint = map[string]string{
	"driver": "qemu", "acceleration": "kvm", "cpu": "host", "vcpus": "1", "memory_mb": "512",
	"devices": "e3dc6a57aa8f2767", "cmdline": "quiet", "host_cpu": "AuthenticAMD/25/17/1",
	"vmm_version": "10.0.2", "vmm_digest": "aa", "vmm_firmware": "bb", "tsc_khz": "2445426", "cpu_features": "0f.f0",
}

// legacyPrint is the fingerprint that an earlier agent wrote on the same host.
var legacyPrint = map[string]string{
	"driver": "qemu", "acceleration": "kvm", "cpu": "host", "vcpus": "1", "memory_mb": "512",
	"machine": "7cc150b73815952a", "cmdline": "other", "host_cpu": "AuthenticAMD/25/17/1/0xa101154",
	"vmm_version": "10.0.2", "vmm_digest": "aa",
}

func with(print map[string]string, changes ...string) map[string]string {
	print = maps.Clone(print)
	for i := 0; i < len(changes); i += 2 {
		print[changes[i]] = changes[i+1]
		if changes[i+1] == "" {
			delete(print, changes[i])
		}
	}
	return print
}

func TestCheckFingerprint(t *testing.T) {
	for _, c := range []struct {
		name       string
		saved, now map[string]string
		differs    string // the entry that the error names; empty: compatible
	}{
		{"the same", kvmPrint, kvmPrint, ""},
		{"another version number alone", kvmPrint, with(kvmPrint, "vmm_version", "10.0.3"), ""},
		{"another kernel command line", kvmPrint, with(kvmPrint, "cmdline", "loud"), ""},
		{"another binary", kvmPrint, with(kvmPrint, "vmm_digest", "cc"), "vmm_digest"},
		{"another firmware", kvmPrint, with(kvmPrint, "vmm_firmware", "cc"), "vmm_firmware"},
		{"other devices", kvmPrint, with(kvmPrint, "devices", "cc"), "devices"},
		{"another processor", kvmPrint, with(kvmPrint, "host_cpu", "AuthenticAMD/25/18/1"), "host_cpu"},
		{"software emulation", kvmPrint, with(kvmPrint, "acceleration", "tcg", "host_cpu", ""), "acceleration"},
		{"a processor with more features", kvmPrint, with(kvmPrint, "cpu_features", "1f.f0"), ""},
		{"a processor with one feature less", kvmPrint, with(kvmPrint, "cpu_features", "1f.e0"), "cpu_features"},
		{"features that cannot be read", kvmPrint, with(kvmPrint, "cpu_features", "x"), "cpu_features"},
		{"a clock 24 ppm faster", kvmPrint, with(kvmPrint, "tsc_khz", "2445485"), ""},
		{"a clock 1 % faster", kvmPrint, with(kvmPrint, "tsc_khz", "2470000"), "tsc_khz"},
		{"a clock 1 % faster, scaled", kvmPrint, with(kvmPrint, "tsc_khz", "2470000", "tsc_scaling", "yes"), ""},
		{"no clock rate now", kvmPrint, with(kvmPrint, "tsc_khz", ""), "tsc_khz"},
		{"an earlier agent's", legacyPrint, kvmPrint, ""},
		{"an earlier agent's, after a microcode update", with(legacyPrint, "host_cpu", "AuthenticAMD/25/17/1/0xa101158"), kvmPrint, ""},
		{"an earlier agent's, on another processor", with(legacyPrint, "host_cpu", "AuthenticAMD/25/18/1/0xa101154"), kvmPrint, "host_cpu"},
		{"an earlier agent's, with devices nobody knows", with(legacyPrint, "machine", "dd"), kvmPrint, "devices"},
		{"an earlier agent's, another binary", with(legacyPrint, "vmm_digest", "cc"), kvmPrint, "vmm_digest"},
	} {
		err := vmm.CheckFingerprint(c.saved, c.now)
		switch {
		case c.differs == "" && err != nil:
			t.Errorf("%s: %v, want no difference", c.name, err)
		case c.differs == "":
		case err == nil:
			t.Errorf("%s: no difference, want %s named", c.name, c.differs)
		case !strings.Contains(err.Error(), c.differs+" was ") || fault.As(err).Reason != "snapshot_incompatible":
			t.Errorf("%s: %v, want %s named", c.name, err, c.differs)
		}
	}
}

func TestSameBuild(t *testing.T) {
	for saved, want := range map[string]bool{"aa bb": true, "aa ": true, "aa cc": false, "cc bb": false, "cc ": false} {
		binary, firmware, _ := strings.Cut(saved, " ")
		print := with(kvmPrint, "vmm_digest", binary, "vmm_firmware", firmware)
		if got := vmm.SameBuild(print, kvmPrint); got != want {
			t.Errorf("binary and firmware %q: the same build is %v, want %v", saved, got, want)
		}
	}
}
