package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/doctor"
)

func TestKeyCheck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api-key")
	if got := keyCheck(path); got.Status != doctor.OK || got.Found != "none yet" {
		t.Errorf("without a key: %+v", got)
	}
	if err := writeSecret(path, "wrn_secret"); err != nil {
		t.Fatal(err)
	}
	if got := keyCheck(path); got.Status != doctor.OK || strings.Contains(got.String(), "wrn_secret") {
		t.Errorf("with a key: %+v", got)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := keyCheck(path); got.Status != doctor.Warn || got.Fix != "sudo chmod 600 "+path {
		t.Errorf("with a key that others can read: %+v", got)
	}
}
