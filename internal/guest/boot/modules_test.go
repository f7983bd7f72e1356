package boot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLoadModules(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := loadModules(root); err != nil {
		t.Errorf("without a list: %v", err)
	}
	outside := filepath.Join(filepath.Dir(dir), "two.ko")
	bad := filepath.Join(dir, "bad.ko")
	for path, text := range map[string]string{
		filepath.Join(dir, "order"): "one.ko\n\n../two.ko number=0 other=1\nbad.ko\n", outside: "outside", bad: "no module",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err = loadModules(root); err == nil {
		t.Fatal("missing modules are no error")
	}
	// One that is missing must not hide the next, nor lead out of the directory.
	for _, name := range []string{"one.ko", "two.ko", "bad.ko"} {
		if !strings.Contains(err.Error(), "module "+name+":") {
			t.Errorf("%s is not named in %v", name, err)
		}
	}
	if _, err := os.Stat(bad); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of a module was kept: %v", err)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Errorf("a file outside of the directory: %v", err)
	}
}

// TestAgentsAwaitModules: the wait ends when the last module was tried, and not before.
func TestAgentsAwaitModules(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "order"), []byte("absent.ko\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := openLater(dir)
	if err != nil {
		t.Fatal(err)
	}
	waiting := &awaited{loaded: os.NewFile(uintptr(l.loaded), "loaded")}
	defer waiting.loaded.Close()
	ended := make(chan error)
	go func() { ended <- waiting.wait() }()
	select {
	case err := <-ended:
		t.Fatalf("the wait has ended before the modules were loaded: %v", err)
	default:
	}
	done := make(chan error)
	go func() { done <- l.load() }()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "absent.ko") {
		t.Errorf("a missing module: got %v, want an error that names it", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the wait has failed: %v", err)
	}
	restarted := &awaited{loaded: waiting.loaded}
	for name, a := range map[string]*awaited{"another wait": waiting, "a wait of the next agent": restarted} {
		if err := a.wait(); err != nil || !a.over.Load() {
			t.Errorf("%s: got %v, want success", name, err)
		}
	}
}

// TestModuleThatHangs: once the time is over no call waits, and a module that is loaded late
// is noticed.
func TestModuleThatHangs(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	a := &awaited{loaded: r, patience: time.Millisecond}
	if err := a.wait(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the first wait: %v, want the end of its time", err)
	}
	a.patience = time.Hour // which would be noticed
	if err := a.wait(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the next wait: %v, want the end of its time", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.wait(); err != nil {
		t.Errorf("a wait after the last module was loaded: %v", err)
	}
}
