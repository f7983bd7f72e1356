package boot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoadModules(t *testing.T) {
	dir := t.TempDir()
	if err := loadModules(dir); err != nil {
		t.Errorf("without a list: %v", err)
	}
	list := "one.ko\n../../two.ko\n"
	if err := os.WriteFile(filepath.Join(dir, "order"), []byte(list), 0o644); err != nil {
		t.Fatal(err)
	}
	err := loadModules(dir)
	if err == nil {
		t.Fatal("missing modules are no error")
	}
	// One that is missing must not hide the next, nor lead out of dir.
	for _, name := range []string{"one.ko", "two.ko"} {
		if !strings.Contains(err.Error(), filepath.Join(dir, name)) {
			t.Errorf("%s is not named in %v", name, err)
		}
	}
}
