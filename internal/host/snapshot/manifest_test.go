package snapshot

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/filesum"
)

// TestManifestOfVersion01 checks files by a manifest in the form of version 0.1,
// which named QEMU's files, and by one of the present form.
func TestManifestOfVersion01(t *testing.T) {
	dir := Dir(t.TempDir())
	files := []vmm.File{{Name: "memory", Noun: "memory file", Shared: true}, {Name: "state", Noun: "device state", Summed: true}}
	for _, f := range files {
		if err := os.WriteFile(dir.File(f.Name), []byte(f.Name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	memory, err1 := sealOf(dir.File("memory"))
	sum, _, err2 := filesum.SHA256(dir.File("state"))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	old, err := parseManifest(fmt.Appendf(nil, `{"memory":{"bytes":6,"modified_nano":%d},"state_sha256":%q}`, memory.ModifiedNano, sum))
	if err != nil {
		t.Fatal(err)
	}
	if err := writeManifest(dir, Manifest{Files: map[string]Seal{"memory": memory}}, files, false); err != nil {
		t.Fatal(err)
	}
	now, err := ReadManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	for form, mf := range map[string]Manifest{"version 0.1": old, "now": now} {
		for _, f := range files {
			if err := mf.check(dir, f); err != nil {
				t.Errorf("%s: check of %s: %v, want no error", form, f.Name, err)
			}
		}
	}
	if err := os.WriteFile(dir.File("state"), []byte("statE"), 0o600); err != nil {
		t.Fatal(err)
	}
	for form, mf := range map[string]Manifest{"version 0.1": old, "now": now} {
		if err := mf.check(dir, files[1]); fault.ReasonOf(err) != "snapshot_damaged" {
			t.Errorf("%s: check of a changed state: %v, want snapshot_damaged", form, err)
		}
	}
}
