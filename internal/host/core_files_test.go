package host_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/archive"
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

// TestArchives copies a directory into a guest and out again, and reads a part of a file.
func TestArchives(t *testing.T) {
	b := newPortBench(t)
	ref := b.create()
	from, to, back := t.TempDir(), filepath.Join(t.TempDir(), "new", "dir"), t.TempDir()
	check(t, os.MkdirAll(filepath.Join(from, "d", "empty"), 0o755))
	check(t, os.WriteFile(filepath.Join(from, "d", "large"), bytes.Repeat([]byte("0123456789abcdef"), 1<<16), 0o640))
	check(t, os.Symlink("d/large", filepath.Join(from, "link")))
	root, err := os.OpenRoot(from)
	check(t, err)
	defer root.Close()
	var packed bytes.Buffer
	_, err = archive.Pack(t.Context(), root, ".", &packed, archive.Packing{})
	check(t, err)
	whole := packed.Bytes()
	up := control.WriteFile{Path: to, Archive: true}
	n, err := b.client.WriteFile(t.Context(), ref, up, bytes.NewReader(whole))
	if check(t, err); n != int64(len(whole)) {
		t.Errorf("got %d bytes, want %d", n, len(whole))
	}
	f, err := b.client.ReadFile(t.Context(), ref, control.ReadFile{Path: to, Archive: true})
	check(t, err)
	backRoot, err := os.OpenRoot(back)
	check(t, err)
	defer backRoot.Close()
	totals, err := archive.Unpack(t.Context(), backRoot, f.Body, archive.Unpacking{})
	check(t, errors.Join(err, f.Body.Close()))
	if target, _ := os.Readlink(filepath.Join(back, "link")); totals.Entries != 4 || totals.Bytes != 1<<20 || target != "d/large" {
		t.Errorf("got %+v and the link to %q, want 4 entries of 1 MiB", totals, target)
	}
	for body, reason := range map[string]string{
		string(whole[:len(whole)-2048]): "archive_incomplete", "no tar": "archive_incomplete", strings.Repeat("no tar", 1000): "invalid_archive",
	} {
		_, err = b.client.WriteFile(t.Context(), ref, up, strings.NewReader(body))
		if fault.ReasonOf(err) != reason {
			t.Errorf("%d bytes: got %v, want %s", len(body), err, reason)
		}
	}
	// A file too large for an archive ends the download with an error, amid the data.
	check(t, os.Truncate(filepath.Join(to, "d", "large"), 1<<40))
	f, err = b.client.ReadFile(t.Context(), ref, control.ReadFile{Path: to, Archive: true})
	check(t, err)
	if _, err := io.Copy(io.Discard, f.Body); fault.ReasonOf(err) != "archive_too_large" {
		t.Errorf("of a file of 1 TiB: got %v, want archive_too_large", err)
	}
	check(t, f.Body.Close())
}

func TestPartsOfFiles(t *testing.T) {
	b := newPortBench(t)
	ref := b.create()
	path := filepath.Join(t.TempDir(), "f")
	check(t, os.WriteFile(path, bytes.Repeat([]byte("0123456789"), 10_000), 0o600))
	read := func(r *control.FileRange) (*control.File, string) {
		t.Helper()
		f, err := b.client.ReadFile(t.Context(), ref, control.ReadFile{Path: path, Range: r})
		check(t, err)
		body, err := io.ReadAll(f.Body)
		check(t, errors.Join(err, f.Body.Close()))
		return f, string(body)
	}
	whole, _ := read(nil)
	if whole.Part != nil || whole.Size != 100_000 || whole.Tag == "" || whole.ModifiedAt.Unix() <= 0 {
		t.Errorf("got %+v, want the whole file with a tag and a time", whole)
	}
	if f, body := read(&control.FileRange{Offset: 99_995, Length: 50_000, IfTag: whole.Tag}); body != "56789" || *f.Part != (control.FilePart{Offset: 99_995, Total: 100_000}) {
		t.Errorf("got %q at %+v, want the end", body, f.Part)
	}
	if f, body := read(&control.FileRange{Offset: -60_000}); len(body) != 60_000 || f.Part.Offset != 40_000 {
		t.Errorf("got %d bytes at %+v, want the last 60000", len(body), f.Part)
	}
	if f, body := read(&control.FileRange{Offset: 100_000}); body != "" || f.Part == nil || f.Part.Total != 100_000 {
		t.Errorf("beyond the end: got %q at %+v, want nothing of 100000", body, f.Part)
	}
	check(t, os.WriteFile(path, []byte("new"), 0o600))
	if f, body := read(&control.FileRange{Offset: 1, Length: 1, IfTag: whole.Tag}); body != "new" || f.Part != nil || f.Tag == whole.Tag {
		t.Errorf("after a change: got %q at %+v, want the whole new file", body, f.Part)
	}
	path = "/proc/self/status"
	if f, body := read(&control.FileRange{Offset: 1, Length: 1}); f.Part != nil || len(body) < 100 || f.Tag != "" {
		t.Errorf("of a kernel file: got %d bytes at %+v, want all of it", len(body), f.Part)
	}
}

// TestWatch sees changes through the host agent, the loss of some of them, and the end
// of the directory.
func TestWatch(t *testing.T) {
	b := newPortBench(t)
	ref := b.create()
	dir := filepath.Join(t.TempDir(), "d")
	check(t, os.Mkdir(dir, 0o755))
	events, ended := make(chan control.FileEvent), make(chan error, 1)
	go func() {
		ended <- b.client.WatchFiles(t.Context(), ref, control.FileWatch{Path: dir, Recursive: true}, func(e control.FileEvent) error {
			events <- e
			return nil
		})
	}()
	await := func(want control.FileEvent) {
		t.Helper()
		for e := range events {
			if e == want {
				return
			}
		}
	}
	if e := <-events; e.Type != control.FileWatchReady {
		t.Errorf("got %+v first, want ready", e)
	}
	check(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o755))
	await(control.FileEvent{Type: control.FileCreated, Name: "sub"})
	// A file that is there when the watch of its new directory begins is only created.
	for name := filepath.Join("sub", "f\xff"); ; {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644))
		if e := <-events; e == (control.FileEvent{Type: control.FileWritten, Name: name}) {
			break
		}
	}
	// While nobody reads, far more changes come than wait anywhere.
	path := filepath.Join(dir, "sub", strings.Repeat("n", 200))
	for n := range 60_000 {
		check(t, os.WriteFile(path+string(rune('a'+n%2)), nil, 0o644))
		check(t, os.Chmod(path+string(rune('a'+n%2)), 0o600))
	}
	await(control.FileEvent{Type: control.FileWatchOverflow, Name: "."})
	// The queues may still be full, so that the next change is lost as well.
	for seen, n := false, 0; !seen; n++ {
		name := fmt.Sprint("after", n)
		check(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
		for e := range events {
			if seen = e == (control.FileEvent{Type: control.FileCreated, Name: name}); seen || e.Type == control.FileWatchOverflow {
				break
			}
		}
	}
	check(t, os.RemoveAll(dir))
	await(control.FileEvent{Type: control.FileRemoved, Name: "."})
	if err := <-ended; fault.ReasonOf(err) != "file_not_found" {
		t.Errorf("after the directory had gone: got %v, want file_not_found", err)
	}
	err := b.client.WatchFiles(t.Context(), ref, control.FileWatch{Path: dir}, func(control.FileEvent) error { return nil })
	if fault.ReasonOf(err) != "file_not_found" {
		t.Errorf("of a missing directory: got %v, want file_not_found", err)
	}
}

// TestPauseEndsWatch: a pause does not wait for a watch, and the watch has the reason.
func TestPauseEndsWatch(t *testing.T) {
	b := newPortBench(t)
	ref := b.create()
	dir := t.TempDir()
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- b.client.WatchFiles(t.Context(), ref, control.FileWatch{Path: dir}, func(control.FileEvent) error {
			close(ready)
			return nil
		})
	}()
	<-ready
	_, err := b.client.Pause(t.Context(), ref)
	check(t, err)
	if err := <-ended; fault.ReasonOf(err) != control.ReasonPaused {
		t.Errorf("got %v, want sandbox_paused", err)
	}
}
