package tsc

import (
	"math/bits"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

const supported = true

// rdtsc reads the counter after all earlier instructions have finished.
func rdtsc() uint64

func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)

// fromCPUID returns the rate that the processor or the hypervisor states, or 0.
//
// Leaf 0x40000010 is the timing leaf that KVM, VMware and others agree on
// (EAX: kHz). Leaf 0x15 (Intel SDM volume 2) gives the rate as the crystal
// (ECX, Hz) times EBX/EAX; where ECX is 0 the crystal is not stated. Leaf 0x16
// is left out: it is rounded to MHz.
func fromCPUID() uint64 {
	const hypervisorBit = 1 << 31
	if _, _, ecx, _ := cpuid(1, 0); ecx&hypervisorBit != 0 {
		if top, _, _, _ := cpuid(0x40000000, 0); top >= 0x40000010 && top < 0x40010000 {
			khz, _, _, _ := cpuid(0x40000010, 0)
			return uint64(khz)
		}
	}
	if top, _, _, _ := cpuid(0, 0); top < 0x15 {
		return 0
	}
	den, num, crystal, _ := cpuid(0x15, 0)
	if den == 0 || num == 0 || crystal == 0 {
		return 0
	}
	hz := uint64(crystal) * uint64(num) / uint64(den)
	return (hz + 500) / 1000
}

// reading is one moment on both clocks.
type reading struct {
	ticks uint64
	nanos uint64
}

// tightest returns the moment, of 32 tries, in which the least time passed
// between the two counter reads around the clock: there a preemption or a
// system management interrupt did not come between.
func tightest() (reading, error) {
	var best reading
	narrowest := ^uint64(0)
	for range 32 {
		before := rdtsc()
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &ts); err != nil {
			return reading{}, fault.Wrap(err, fault.Internal, "clock_unreadable", "the host's raw clock cannot be read")
		}
		width := rdtsc() - before
		if width < narrowest {
			narrowest = width
			best = reading{ticks: before + width/2, nanos: uint64(ts.Nano())}
		}
	}
	return best, nil
}

// measure counts ticks over about d, which it blocks for.
func measure(d time.Duration) (uint64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start, err := tightest()
	if err != nil {
		return 0, err
	}
	time.Sleep(d)
	end, err := tightest()
	if err != nil {
		return 0, err
	}
	if end.nanos <= start.nanos || end.ticks <= start.ticks {
		return 0, fault.New(fault.Unsupported, "tsc_rate_unknown", "the time stamp counter of this host does not advance")
	}
	nanos := end.nanos - start.nanos
	hi, lo := bits.Mul64(end.ticks-start.ticks, 1_000_000)
	lo, carry := bits.Add64(lo, nanos/2, 0)
	if hi += carry; hi >= nanos {
		return 0, fault.New(fault.Unsupported, "tsc_rate_unknown", "the time stamp counter of this host runs implausibly fast")
	}
	khz, _ := bits.Div64(hi, lo, nanos)
	return khz, nil
}
