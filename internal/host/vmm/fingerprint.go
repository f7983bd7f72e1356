package vmm

import (
	"maps"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Entries of a fingerprint that the comparison treats in a way of their own.
const (
	// FingerprintTSC is a clock rate in kHz. Two rates within tscTolerancePPM
	// are equal: a measured rate is never exact.
	FingerprintTSC = "tsc_khz"
	// FingerprintScaling is "yes" on a host that can run a guest's time stamp
	// counter at the saved rate, at any rate of its own.
	FingerprintScaling = "tsc_scaling"
	// FingerprintFeatures are the processor's feature bits: words in
	// hexadecimal, joined by dots. A host may have more than the saved ones.
	FingerprintFeatures = "cpu_features"
	// FingerprintBinary is the digest of the VMM's binary, FingerprintFirmware
	// that of its ROM images, FingerprintVersion for people only.
	FingerprintBinary   = "vmm_digest"
	FingerprintFirmware = "vmm_firmware"
	FingerprintVersion  = "vmm_version"

	tscTolerancePPM = 200
)

// A rule compares one entry of two fingerprints. An optional entry that the
// saved one does not have is not compared: older agents did not write it.
type rule struct {
	name     string
	optional bool
	same     func(saved, now map[string]string) bool
}

// rules are the entries that count. Others, such as the version or the kernel's
// command line, are there for people or for the making of templates.
var rules = []rule{
	{"acceleration", false, nil},
	{"cpu", false, nil},
	{"devices", false, nil},
	{"driver", false, nil},
	{FingerprintFeatures, true, hasFeatures},
	{"host_cpu", true, nil},
	{"memory_mb", false, nil},
	{FingerprintTSC, true, sameClock},
	{"vcpus", false, nil},
	{FingerprintBinary, false, nil},
	{FingerprintFirmware, true, nil},
}

// CheckFingerprint compares the fingerprint a snapshot was saved under with
// the one of a driver now. The error is of kind WrongState, reason
// "snapshot_incompatible", and names each difference.
func CheckFingerprint(saved, now map[string]string) error {
	saved = converted(saved)
	var diffs []string
	for _, r := range rules {
		if !r.equal(saved, now) {
			diffs = append(diffs, r.name+" was "+quoteOrNone(saved[r.name])+", is "+quoteOrNone(now[r.name]))
		}
	}
	if diffs == nil {
		return nil
	}
	return fault.New(fault.WrongState, "snapshot_incompatible",
		"the snapshot was taken on another machine or version and cannot be resumed here: %s", strings.Join(diffs, "; "))
}

// SameBuild reports whether saved names the build of the fingerprint now.
func SameBuild(saved, now map[string]string) bool {
	for _, r := range rules {
		if (r.name == FingerprintBinary || r.name == FingerprintFirmware) && !r.equal(saved, now) {
			return false
		}
	}
	return true
}

// WithBuildOf returns print with the entries that name the build taken from
// saved.
func WithBuildOf(print, saved map[string]string) map[string]string {
	print = maps.Clone(print)
	for _, name := range []string{FingerprintBinary, FingerprintFirmware, FingerprintVersion} {
		delete(print, name)
		if value, ok := saved[name]; ok {
			print[name] = value
		}
	}
	return print
}

func (r rule) equal(saved, now map[string]string) bool {
	was, ok := saved[r.name]
	switch {
	case !ok && r.optional:
		return true
	case was == now[r.name]:
		return true
	default:
		return r.same != nil && r.same(saved, now)
	}
}

// The entry "machine" of earlier agents was a digest of all arguments of QEMU,
// host-only ones too. There was one value. Those devices have the digest
// legacyDevices now.
const (
	legacyMachine = "7cc150b73815952a"
	legacyDevices = "e3dc6a57aa8f2767"
)

// converted returns saved in the form of today. Fingerprints of earlier agents
// have the digest of QEMU's arguments instead of the guest-visible devices, and
// the revision of the microcode at the end of the processor's name.
func converted(saved map[string]string) map[string]string {
	if _, ok := saved["devices"]; ok || saved["machine"] == "" {
		return saved
	}
	saved = maps.Clone(saved)
	saved["devices"] = "unknown (" + saved["machine"] + ")"
	if saved["machine"] == legacyMachine {
		saved["devices"] = legacyDevices
	}
	if parts := strings.Split(saved["host_cpu"], "/"); len(parts) == 5 {
		saved["host_cpu"] = strings.Join(parts[:4], "/")
	}
	return saved
}

func quoteOrNone(s string) string {
	if s == "" {
		return "absent"
	}
	return strconv.Quote(s)
}

// sameClock reports whether a guest finds its clock at the rate it knows.
func sameClock(saved, now map[string]string) bool {
	if now[FingerprintScaling] == "yes" && now[FingerprintTSC] != "" {
		return true
	}
	return sameRate(saved[FingerprintTSC], now[FingerprintTSC])
}

func sameRate(a, b string) bool {
	x, errA := strconv.ParseInt(a, 10, 64)
	y, errB := strconv.ParseInt(b, 10, 64)
	if errA != nil || errB != nil {
		return false
	}
	return max(x-y, y-x)*1_000_000 <= tscTolerancePPM*max(x, y)
}

// hasFeatures reports whether every saved feature bit is there now.
func hasFeatures(saved, now map[string]string) bool {
	was, is := words(saved[FingerprintFeatures]), words(now[FingerprintFeatures])
	if was == nil || len(is) < len(was) {
		return false
	}
	for i, w := range was {
		if w&^is[i] != 0 {
			return false
		}
	}
	return true
}

func words(text string) (out []uint64) {
	for word := range strings.SplitSeq(text, ".") {
		n, err := strconv.ParseUint(word, 16, 64)
		if err != nil {
			return nil
		}
		out = append(out, n)
	}
	return out
}
