package tsc

import (
	"math"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
)

// kernelKHz returns the rate that the kernel logged at boot:
// "tsc: Detected 2445.426 MHz processor", possibly refined later.
func kernelKHz(t *testing.T) uint64 {
	t.Helper()
	out, err := exec.Command("dmesg").Output()
	if err != nil {
		t.Skipf("dmesg cannot be read: %v", err)
	}
	for _, re := range []string{
		`tsc: Refined TSC clocksource calibration: (\d+)\.(\d{3}) MHz`,
		`tsc: Detected (\d+)\.(\d{3}) MHz TSC`,
		`tsc: Detected (\d+)\.(\d{3}) MHz processor`,
	} {
		if m := regexp.MustCompile(re).FindSubmatch(out); m != nil {
			khz, err := strconv.ParseUint(string(m[1])+string(m[2]), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return khz
		}
	}
	t.Skip("the kernel's boot messages are no longer in the ring buffer")
	return 0
}

func ppm(a, b uint64) float64 { return math.Abs(float64(a)-float64(b)) / float64(b) * 1e6 }

func TestHostKHzAgreesWithKernel(t *testing.T) {
	got, err := HostKHz()
	if err != nil {
		t.Fatal(err)
	}
	if want := kernelKHz(t); ppm(got, want) > 50 {
		t.Fatalf("host counter %d kHz, kernel says %d kHz (%.1f ppm)", got, want, ppm(got, want))
	}
}

func TestSourcesAgree(t *testing.T) {
	if !supported {
		t.Skip("needs an x86-64 host")
	}
	measured, err := measure(measureFor)
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]uint64{"kvm": fromKVM(), "cpuid": fromCPUID()} {
		t.Logf("%s: %d kHz, measured %d kHz", name, got, measured)
		// 0 means that this host does not have the source.
		if got != 0 && ppm(got, measured) > 50 {
			t.Errorf("%s says %d kHz, measured %d kHz (%.1f ppm)", name, got, measured, ppm(got, measured))
		}
	}
}

func TestFeatures(t *testing.T) {
	if !supported {
		t.Skip("needs an x86-64 host")
	}
	first, second := Features(), Features()
	if first != second || !regexp.MustCompile(`^[0-9a-f]{8}(\.[0-9a-f]{8})+$`).MatchString(first) {
		t.Fatalf("the feature bits are %q and then %q", first, second)
	}
}
