package vmm

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// FingerprintTSC is the fingerprint entry that holds a clock rate in kHz. Two
// rates within tscTolerancePPM are equal: a measured rate is never exact.
const (
	FingerprintTSC  = "tsc_khz"
	tscTolerancePPM = 200
)

// CheckFingerprint compares the fingerprint a snapshot was saved under with
// the one of a driver now. The error is of kind WrongState, reason
// "snapshot_incompatible", and names each difference.
func CheckFingerprint(saved, now map[string]string) error {
	keys := slices.Sorted(maps.Keys(saved))
	for k := range now {
		if _, ok := saved[k]; !ok {
			keys = append(keys, k)
		}
	}
	var diffs []string
	for _, k := range keys {
		if saved[k] != now[k] && (k != FingerprintTSC || !sameRate(saved[k], now[k])) {
			diffs = append(diffs, k+" was "+quoteOrNone(saved[k])+", is "+quoteOrNone(now[k]))
		}
	}
	if diffs == nil {
		return nil
	}
	return fault.New(fault.WrongState, "snapshot_incompatible",
		"the snapshot was taken on another machine or version and cannot be resumed here: %s", strings.Join(diffs, "; "))
}

func quoteOrNone(s string) string {
	if s == "" {
		return "absent"
	}
	return strconv.Quote(s)
}

func sameRate(a, b string) bool {
	x, errA := strconv.ParseInt(a, 10, 64)
	y, errB := strconv.ParseInt(b, 10, 64)
	if errA != nil || errB != nil {
		return false
	}
	return max(x-y, y-x)*1_000_000 <= tscTolerancePPM*max(x, y)
}
