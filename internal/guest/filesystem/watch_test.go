package filesystem

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

const testPatience = 20 * time.Second

// watched runs do below a watched directory and returns the events up to the
// creation of a file called "end".
func watched(t *testing.T, spec WatchSpec, do func()) []Event {
	t.Helper()
	w, err := newFiles().Watch(spec)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	do()
	write(t, filepath.Join(spec.Path, "end"), "")
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	errEnd := errors.New("end")
	var events []Event
	err = w.Run(ctx, func(e Event) error {
		if e.Name == "end" {
			return errEnd
		}
		events = append(events, e)
		return nil
	})
	if !errors.Is(err, errEnd) {
		t.Fatal(err)
	}
	return events
}

func has(events []Event, name string, is EventType) bool {
	return slices.ContainsFunc(events, func(e Event) bool { return e.Name == name && e.Type == is })
}

func TestWatch(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "old"), "")
	events := watched(t, WatchSpec{Path: dir, Entries: true}, func() {
		must(t, os.WriteFile(filepath.Join(dir, "new"), []byte("x"), 0o600))
		must(t, os.Chmod(filepath.Join(dir, "new"), 0o640))
		must(t, os.Rename(filepath.Join(dir, "old"), filepath.Join(dir, "renamed")))
		must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "sub/unseen"), nil, 0o600))
		must(t, os.Remove(filepath.Join(dir, "renamed")))
	})
	for _, want := range []Event{
		{Name: "new", Type: Created}, {Name: "new", Type: Written}, {Name: "new", Type: Chmodded},
		{Name: "old", Type: Renamed}, {Name: "renamed", Type: Created}, {Name: "renamed", Type: Removed},
		{Name: "sub", Type: Created},
	} {
		if !has(events, want.Name, want.Type) {
			t.Errorf("no event %+v in %+v", want, events)
		}
	}
	for _, e := range events {
		if e.Name == "sub/unseen" {
			t.Error("saw below a directory without recursion")
		}
		if e.Name == "new" && (e.Entry == nil || e.Entry.Path != filepath.Join(dir, "new")) {
			t.Errorf("entry of %+v", e)
		}
	}
}

// TestWatchOfFilesThatTheAgentWrites: the temporary file of a write is not reported, and
// its rename looks like the writes of a program that writes in place.
func TestWatchOfFilesThatTheAgentWrites(t *testing.T) {
	dir := t.TempDir()
	owner := Owner{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	put := func(name, content string) {
		if _, err := newFiles().Write(Write{Path: filepath.Join(dir, name), Owner: owner}, strings.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	put("old", "")
	events := watched(t, WatchSpec{Path: dir, Recursive: true}, func() {
		put("new", "x")
		put("old", "x")
		put("sub/new", "x")
		must(t, os.Rename(filepath.Join(dir, "old"), filepath.Join(dir, "renamed")))
	})
	if has(events, "old", Created) {
		t.Error("a file that existed was created")
	}
	for _, want := range []Event{
		{Name: "new", Type: Created}, {Name: "new", Type: Written}, {Name: "old", Type: Written}, {Name: "sub/new", Type: Created},
		{Name: "old", Type: Renamed}, {Name: "renamed", Type: Created},
	} {
		if !has(events, want.Name, want.Type) {
			t.Errorf("no event %+v in %+v", want, events)
		}
	}
	for _, e := range events {
		if isTemporary(filepath.Base(e.Name)) {
			t.Errorf("a temporary file is reported: %+v", e)
		}
	}
}

func TestWatchRecursive(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
	events := watched(t, WatchSpec{Path: dir, Recursive: true}, func() {
		must(t, os.WriteFile(filepath.Join(dir, "a/b/deep"), nil, 0o600))
		must(t, os.MkdirAll(filepath.Join(dir, "new/dir"), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "new/dir/file"), nil, 0o600))
	})
	for _, name := range []string{"a/b/deep", "new", "new/dir", "new/dir/file"} {
		if !has(events, name, Created) {
			t.Errorf("no creation of %s in %+v", name, events)
		}
	}
}

func TestWatchers(t *testing.T) {
	dir := t.TempDir()
	s := NewWatchers(newFiles())
	defer s.Close()
	id, err := s.Create(WatchSpec{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	// A fetch right after a change has its events, also while the watcher's own goroutine
	// reads.
	owner := Owner{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	for range 200 {
		if _, err := newFiles().Write(Write{Path: filepath.Join(dir, "f"), Owner: owner}, strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
		events, err := s.Fetch(id)
		if got := typesIn(events); err != nil || got != "create chmod write" {
			t.Fatalf("after a write the fetch returned %q, %v", got, err)
		}
		must(t, os.Remove(filepath.Join(dir, "f")))
		events, err = s.Fetch(id)
		if got := typesIn(events); err != nil || got != "remove" {
			t.Fatalf("after a removal the fetch returned %q, %v", got, err)
		}
	}
	if err := s.Remove(id); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Fetch(id); !fault.Is(err, fault.NotFound) {
		t.Errorf("removed watcher: %v", err)
	}
	if _, err := s.Create(WatchSpec{Path: filepath.Join(dir, "none")}); !fault.Is(err, fault.NotFound) {
		t.Errorf("missing directory: %v", err)
	}
}

// typesIn returns the types of events in their order.
func typesIn(events []Event) string {
	names := map[EventType]string{Created: "create", Renamed: "rename", Chmodded: "chmod", Written: "write", Removed: "remove"}
	var out []string
	for _, e := range events {
		out = append(out, names[e.Type])
	}
	return strings.Join(out, " ")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestAbandonedWatchersMakeRoom: at the limit a new watcher takes the place of the one
// whose client has not asked for longest, if that is long ago, and of no other.
func TestAbandonedWatchersMakeRoom(t *testing.T) {
	watchers := NewWatchers(newFiles())
	defer watchers.Close()
	spec := WatchSpec{Path: t.TempDir()}
	var ids []string
	for range maxWatchers {
		id, err := watchers.Create(spec)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if _, err := watchers.Create(spec); fault.ReasonOf(err) != "too_many_watchers" {
		t.Fatalf("one watcher too many: %v, want too_many_watchers", err)
	}
	long := time.Now().Add(-2 * abandonedAfter)
	watchers.all[ids[3]].fetched, watchers.all[ids[5]].fetched = long, long.Add(-time.Minute)
	if _, err := watchers.Fetch(ids[3]); err != nil {
		t.Fatal(err)
	}
	if _, err := watchers.Create(spec); err != nil {
		t.Fatalf("after a watcher was abandoned: %v", err)
	}
	if _, err := watchers.Fetch(ids[5]); !fault.Is(err, fault.NotFound) {
		t.Errorf("the abandoned watcher: %v, want NotFound", err)
	}
	if _, err := watchers.Create(spec); fault.ReasonOf(err) != "too_many_watchers" {
		t.Errorf("with all others in use: %v, want too_many_watchers", err)
	}
}
