package doctor

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/vmm/runsc"
)

// TestCheckBuilds expects the sandboxes whose build is gone to be named.
func TestCheckBuilds(t *testing.T) {
	data := t.TempDir()
	qemu := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(qemu, []byte("binary"), 0o755); err != nil {
		t.Fatal(err)
	}
	if c := checkBuilds(filepath.Join(data, "absent"), qemu); c.Status != OK {
		t.Fatalf("before the first start: %v", c)
	}
	write := func(path string, v any) {
		t.Helper()
		text, err := json.Marshal(v)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o755)
		}
		if err == nil {
			err = os.WriteFile(path, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// A sandbox under gVisor whose build is gone beside one whose build is kept.
	program, agent := strings.Repeat("a", 64), strings.Repeat("b", 64)
	for name, agent := range map[string]string{"kept": agent, "gone": strings.Repeat("c", 64)} {
		build := runsc.Build{Digest: program, Agent: agent}
		base := filepath.Join(data, "gvisor", "snapshots", name)
		write(filepath.Join(data, "gvisor", "sandboxes", name, "record.json"), map[string]any{"version": 2, "state": "paused", "base": base})
		write(filepath.Join(base, "manifest.json"), map[string]any{"fingerprint": map[string]string{
			"driver": "gvisor", "vmm_version": "v1", "vmm_digest": build.Digest, "vmm_firmware": build.Firmware(),
		}})
	}
	kept := runsc.Build{Digest: program, Agent: agent}
	kept.ID = kept.ContentID()
	write(filepath.Join(data, "gvisor", "runsc", kept.ID, "build.json"), kept)
	c := checkBuilds(filepath.Join(data, "gvisor"), qemu)
	if c.Status != Warn || !strings.Contains(c.Detail, "snapshots [gone] cannot start without runsc v1") || !strings.Contains(c.Found, "1 of runsc") {
		t.Errorf("with a build of runsc that is gone: %v, want a warning that names the snapshot", c)
	}
	// Data format 1, before the agent's first start after an upgrade, and format 2.
	for _, names := range [][2]string{{"s", "n"}, {"sandboxes", "snapshots"}} {
		data := filepath.Join(data, names[0])
		base := filepath.Join(data, names[1], "snap")
		write(filepath.Join(base, "manifest.json"), map[string]any{
			"fingerprint": map[string]string{"vmm_version": "7.2.22", "vmm_digest": "gone"},
		})
		write(filepath.Join(data, names[0], "sandbox1", "record.json"), map[string]any{
			"version": 2, "id": "sandbox1", "state": "paused", "base": base,
		})
		c := checkBuilds(data, qemu)
		for _, want := range []string{"7.2.22", "sandbox1", "snap"} {
			if c.Status != Warn || !strings.Contains(c.Detail, want) {
				t.Errorf("with a build that is gone: %v, want a warning that names %s", c, want)
			}
		}
	}
}
