package gvisor

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// build puts a build with that program into the directory dir and returns its id.
func build(t *testing.T, dir, program string, made time.Time) string {
	t.Helper()
	sum := sha256.Sum256([]byte(program))
	r := Runtime{Version: "of " + program, Digest: hex.EncodeToString(sum[:])}
	r.ID = r.Digest[:32]
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(dir, r.ID)
	description := filepath.Join(home, "build.json")
	err = errors.Join(os.MkdirAll(home, 0o755), os.WriteFile(filepath.Join(home, "runsc"), []byte(program), 0o755),
		os.WriteFile(description, data, 0o644), os.Chtimes(description, made, made))
	if err != nil {
		t.Fatal(err)
	}
	return r.ID
}

func TestRuntimes(t *testing.T) {
	dir := t.TempDir()
	r := &runtimes{dir: dir, verified: make(map[string]bool)}
	if _, err := r.find(""); fault.As(err).Reason != "vmm_missing" {
		t.Fatalf("no build: got %v, want vmm_missing", err)
	}
	day := time.Unix(1_700_000_000, 0)
	older, newer := build(t, dir, "older", day), build(t, dir, "newer", day.Add(time.Hour))
	if err := os.Mkdir(filepath.Join(dir, ".new-cut-off"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := r.find(""); err != nil || got.ID != newer {
		t.Fatalf("the current build is %q (%v), want the newest", got.Version, err)
	}
	kept, err := r.find(older)
	if err != nil || r.verify(kept) != nil {
		t.Fatalf("an older build: %v, %v", err, r.verify(kept))
	}
	for range 2 { // it is idempotent
		if err := r.remove(older); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.find(older); fault.As(err).Reason != "vmm_build_missing" {
		t.Fatalf("a removed build: got %v, want vmm_build_missing", err)
	}
	if err := r.remove("../elsewhere"); err == nil {
		t.Fatal("a path was taken for the id of a build")
	}
}

func TestDamagedRuntimeIsRefused(t *testing.T) {
	dir := t.TempDir()
	id := build(t, dir, "program", time.Now())
	if err := os.WriteFile(filepath.Join(dir, id, "runsc"), []byte("another"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := &runtimes{dir: dir, verified: make(map[string]bool)}
	one, err := r.find(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.verify(one); fault.As(err).Reason != "vmm_build_damaged" {
		t.Fatalf("a changed program: got %v, want vmm_build_damaged", err)
	}
	if err := os.WriteFile(filepath.Join(dir, id, "build.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := r.find(id); fault.As(err).Reason != "vmm_build_damaged" {
		t.Fatalf("an unreadable description: got %v, want vmm_build_damaged", err)
	}
}
