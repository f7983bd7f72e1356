package filesum

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestSHA256 compares with the sums that sha256sum(1) prints.
func TestSHA256(t *testing.T) {
	for _, c := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"empty", nil, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"short", []byte("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"more than one read", bytes.Repeat([]byte{0}, 3<<20+1), "5983281b51c767c831104f52c95e4075f27e6f4fa8dd0526e3929f79176a1217"},
	} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		sum, size, err := SHA256(path)
		if err != nil || sum != c.want || size != int64(len(c.content)) {
			t.Errorf("%s: got %s, %d bytes, %v; want %s, %d bytes", c.name, sum, size, err, c.want, len(c.content))
		}
	}
}

func TestSHA256ReportsErrors(t *testing.T) {
	dir := t.TempDir()
	if sum, _, err := SHA256(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) || sum != "" {
		t.Errorf("a missing file: got %q, %v; want fs.ErrNotExist", sum, err)
	}
	if sum, _, err := SHA256(dir); err == nil || sum != "" {
		t.Errorf("a directory: got %q, no error", sum)
	}
}
