package host_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestFileOperations drives each operation through the host agent to a guest's agent.
func TestFileOperations(t *testing.T) {
	b := newPortBench(t)
	ref := b.create()
	root := t.TempDir()
	do := func(call control.FileCall) control.FilePage {
		t.Helper()
		page, err := b.client.CallFile(t.Context(), ref, call)
		check(t, err)
		return page
	}
	mode := uint32(0o750)
	made := do(control.FileMakeDir{Path: filepath.Join(root, "d", "e"), Parents: true, Mode: &mode})
	if e := made.Entries[0]; e.Name != "e" || e.Type != control.FileDirectory || e.Mode != mode || e.ModifiedAt.IsZero() {
		t.Errorf("mkdir: got %+v", e)
	}
	check(t, os.WriteFile(filepath.Join(root, "f\xff"), []byte("abc"), 0o640))
	check(t, os.Symlink("d", filepath.Join(root, "link")))
	moved := do(control.FileMove{From: filepath.Join(root, "link"), To: filepath.Join(root, "new", "link")})
	if e := moved.Entries[0]; e.Type != control.FileSymlink || e.Target != "d" {
		t.Errorf("move: got %+v, want the link", e)
	}
	var names []string
	for after := ""; ; {
		page := do(control.FileList{Path: root, Depth: 3, Limit: 2, After: after})
		for _, e := range page.Entries {
			names, after = append(names, e.Name), e.Name
		}
		if !page.More {
			break
		}
	}
	if want := []string{"d", "d/e", "f\xff", "new", "new/link"}; !reflect.DeepEqual(names, want) {
		t.Errorf("list: got %q, want %q", names, want)
	}
	_, err := b.client.CallFile(t.Context(), ref, control.FileRemove{Path: filepath.Join(root, "d")})
	if fault.ReasonOf(err) != "directory_not_empty" {
		t.Errorf("remove: got %v, want directory_not_empty", err)
	}
	if page := do(control.FileRemove{Path: filepath.Join(root, "d"), Recursive: true}); len(page.Entries) != 0 {
		t.Errorf("remove: got %+v, want no entry", page)
	}
	_, err = b.client.CallFile(t.Context(), ref, control.FileStat{Path: filepath.Join(root, "d")})
	if !fault.Is(err, fault.NotFound) || fault.ReasonOf(err) != "file_not_found" {
		t.Errorf("stat of a removed directory: got %v, want file_not_found", err)
	}
	old := sandbox.Ref{ID: ref.ID, Generation: ref.Generation - 1}
	_, err = b.client.CallFile(t.Context(), old, control.FileStat{Path: root})
	if !fault.Is(err, fault.Stale) {
		t.Errorf("of an earlier generation: got %v, want stale", err)
	}
}
