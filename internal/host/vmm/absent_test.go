package vmm

import (
	"testing"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestAbsentFingerprint: an agent that has lost a runtime adds to the fingerprints of
// that runtime's templates when it looks for garbage.
func TestAbsentFingerprint(t *testing.T) {
	print := Absent(sandbox.RuntimeGVisor).Fingerprint(Config{})
	print["image"] = "digest" // panics on a nil map
	if err := CheckFingerprint(map[string]string{"image": "digest", "driver": "gvisor"}, print); err == nil {
		t.Error("a snapshot of a driver that this host has not fits it")
	}
}
