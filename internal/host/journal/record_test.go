package journal

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
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

// TestLongestStartCommand: a record with the longest start command can be read again, also
// if JSON has to escape each byte of it.
func TestLongestStartCommand(t *testing.T) {
	start := sandbox.StartCommand{ID: "p", Command: []string{"sh", strings.Repeat("<", 256<<10-5)}}
	if err := start.Validate(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := (&Record{Start: &start}).Write(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(dir); err != nil || got.Start.Command[1] != start.Command[1] {
		t.Errorf("read again: %v, want the start command", err)
	}
}

// TestRecordVersion: a record that an agent of version 2 would misunderstand has version 3,
// which that agent refuses. Every other record can still be read by it.
func TestRecordVersion(t *testing.T) {
	for name, c := range map[string]struct {
		rec  Record
		want int
	}{
		"plain":          {Record{Pause: "pause-1", Instance: Instance{Base: "/data/templates/boot/1"}}, 2},
		"without memory": {Record{DiskOnly: true}, 3},
		"boots":          {Record{Boot: true}, 3},
		"starts again":   {Record{Start: &sandbox.StartCommand{ID: "p", Command: []string{"sleep"}}}, 3},
		"has booted":     {Record{Instance: Instance{Base: "/data/sandboxes/1/boot-7"}}, 3},
	} {
		for how, write := range map[string]func(*Record, string) error{"Write": (*Record).Write, "WritePause": (*Record).WritePause} {
			dir := t.TempDir()
			if err := write(&c.rec, dir); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(filepath.Join(dir, FileName))
			if err != nil {
				t.Fatal(err)
			}
			var file struct{ Version int }
			if err := json.Unmarshal(data, &file); err != nil || file.Version != c.want {
				t.Errorf("%s, %s: version %d, %v; want %d", name, how, file.Version, err, c.want)
			}
			if _, err := Read(dir); err != nil {
				t.Errorf("%s, %s: read again: %v", name, how, err)
			}
		}
	}
	for version, reason := range map[int]string{1: "internal", Version + 1: "data_newer"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, FileName), fmt.Appendf(nil, `{"version":%d}`, version), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(dir); err == nil || fault.As(err).Reason != reason {
			t.Errorf("a record of version %d: %v, want %s", version, err, reason)
		}
	}
}
