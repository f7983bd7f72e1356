package journal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRecordReadsOldRestoreReport reads a record as version 0.1 wrote it, with
// the restore report under "hygiene", and writes it again under the new name.
func TestRecordReadsOldRestoreReport(t *testing.T) {
	const old = `{"version":2,"id":"k3jv7qxw2mabcdefghij","generation":3,"state":"paused","created_at":"2026-01-02T15:04:05Z",` +
		`"hygiene":{"At":"2026-01-02T15:04:06Z","Generation":3,"ClockStep":-81233402000,"Reseeded":true,"VMGeneration":"none","Steps":{"clock":400000}}}`
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"as version 0.1 wrote it", "after it was written again"} {
		r, err := Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		h := r.RestoreReport
		if h == nil || h.Generation != 3 || !h.Reseeded || h.VMGeneration != "none" || len(h.Steps) != 1 {
			t.Fatalf("%s: restore report %+v, want that of generation 3", step, h)
		}
		if err := r.Write(dir); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if s := string(data); strings.Contains(s, `"hygiene"`) || !strings.Contains(s, `"restore_report"`) {
		t.Errorf("written again it is %s, want restore_report and no hygiene", s)
	}
}
