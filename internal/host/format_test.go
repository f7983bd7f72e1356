package host_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// formatOne are the directories of data format 1, by their present names.
var formatOne = map[string]string{"sandboxes": "s", "snapshots": "n", "builds": "b"}

// oldPath returns path as format 1 had it below data.
func oldPath(data, path string) string {
	for name, was := range formatOne {
		path = strings.ReplaceAll(path, filepath.Join(data, name)+"/", filepath.Join(data, was)+"/")
	}
	return path
}

// toFormatOne gives the data directory of a closed agent the form that format 1
// had: the names of directories, and the paths in records.
func toFormatOne(t testing.TB, data string) {
	t.Helper()
	records, err := filepath.Glob(filepath.Join(data, "sandboxes", "*", "record.json"))
	check(t, err)
	for _, path := range records {
		text, err := os.ReadFile(path)
		check(t, err)
		check(t, os.WriteFile(path, []byte(oldPath(data, string(text))), 0o600))
	}
	check(t, os.Remove(filepath.Join(data, "s")))
	for name, was := range formatOne {
		check(t, os.Rename(filepath.Join(data, name), filepath.Join(data, was)))
	}
	check(t, os.WriteFile(filepath.Join(data, "format"), []byte("1\n"), 0o600))
}

// TestRunningVMOfFormatOne: a VM whose directory is renamed under it by an
// upgrade is taken over, paused and resumed, and so is a paused one.
func TestRunningVMOfFormatOne(t *testing.T) {
	b := newBench(t, "wfmt1")
	running, paused := b.create(), b.create()
	b.sh(running, counter)
	b.sh(paused, counter)
	const named sandbox.SnapshotID = "offormatone"
	_, err := b.Snapshot(t.Context(), paused, named, false)
	check(t, err)
	child := newRef()
	_, err = b.CreateFrom(t.Context(), child, smallSpec, named)
	check(t, err)
	for _, ref := range []sandbox.Ref{paused, child} {
		_, err = b.Pause(t.Context(), ref)
		check(t, err)
	}
	b.close()
	toFormatOne(t, b.dir)
	b.open()
	b.goesOn(running)
	_, err = b.Pause(t.Context(), running)
	check(t, err)
	for _, ref := range []sandbox.Ref{running, paused, child} {
		ref.Generation++
		_, err = b.Resume(t.Context(), ref)
		check(t, err)
		b.goesOn(ref)
	}
}
