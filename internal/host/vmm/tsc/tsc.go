// Package tsc finds out how fast this host's time stamp counter runs.
//
// Under software emulation QEMU's RDTSC is the host's counter plus an offset,
// and a Linux guest without another timer needs the rate on its command line
// (tsc_early_khz=): it becomes the rate of the guest's clock, so parts per
// million matter. The QEMU driver asks once per agent life and puts the value
// into the fingerprint of snapshots, under KVM with the processor's feature bits and
// whether the rate of a guest can be changed. The package never changes a clock and
// never looks at a guest.
package tsc

import (
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Features returns the feature bits that the processor of this host has, as
// words in hexadecimal joined by dots; a bit has the same place on every host.
// It is empty on anything but amd64.
func Features() string { return features() }

// Scaling reports whether KVM can run a guest's counter at another rate than
// the host's (KVM_CAP_TSC_CONTROL of the kernel's virt/kvm/api.rst). It is false
// where KVM cannot be opened.
func Scaling() bool { return scaling() }

// The plausible range of a counter rate, in kHz. A source that reports
// something outside it is not believed.
const (
	minKHz = 100_000
	maxKHz = 20_000_000
)

// measureFor is how long the fallback measures: 50 ms is right to better than
// 1 ppm, where 10 ms is off by about 2 ppm.
const measureFor = 50 * time.Millisecond

// HostKHz returns the rate of the host's time stamp counter in kHz, rounded.
// It asks, in order, KVM (the kernel's own calibrated value), CPUID, and a
// 50 ms measurement against CLOCK_MONOTONIC_RAW. The answer is found once per
// process. On anything but amd64 it fails with fault.Unsupported.
func HostKHz() (uint64, error) { return hostKHz() }

var hostKHz = sync.OnceValues(func() (uint64, error) {
	if !supported {
		return 0, fault.New(fault.Unsupported, "no_tsc", "only x86-64 hosts have a time stamp counter")
	}
	for _, source := range []func() uint64{fromKVM, fromCPUID} {
		if khz := source(); plausible(khz) {
			return khz, nil
		}
	}
	khz, err := measure(measureFor)
	if err != nil {
		return 0, err
	}
	if !plausible(khz) {
		return 0, fault.New(fault.Unsupported, "tsc_rate_unknown",
			"the time stamp counter of this host does not run at a steady rate (%d kHz measured)", khz)
	}
	return khz, nil
})

func plausible(khz uint64) bool { return khz >= minKHz && khz <= maxKHz }
