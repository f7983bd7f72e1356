package host

import (
	"path/filepath"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// layout names the files of the agent's data directory:
//
//	<data>/lock                      held while an agent runs
//	<data>/s/<id>/record.json        the journal of one machine
//	<data>/s/<id>/disk               its writable disk
//	<data>/s/<id>/base               memory base of a cold boot: a hole
//	<data>/s/<id>/snap-<generation>/ a snapshot: memory, state, manifest.json
//	<data>/s/<id>/vm/                the VM process's own directory
//	<data>/t/<key>/                  a template snapshot: memory, state, disk, manifest.json
//	<data>/b/<id>/                   a machine that is to become one
type layout struct{ root string }

func (l layout) lock() string      { return filepath.Join(l.root, "lock") }
func (l layout) machines() string  { return filepath.Join(l.root, "s") }
func (l layout) templates() string { return filepath.Join(l.root, "t") }
func (l layout) builds() string    { return filepath.Join(l.root, "b") }
func (l layout) machine(id sandbox.ID) dirNames {
	return dirNames(filepath.Join(l.machines(), string(id)))
}

// dirNames is the directory of one machine.
type dirNames string

func (d dirNames) disk() string { return filepath.Join(string(d), "disk") }
func (d dirNames) base() string { return filepath.Join(string(d), "base") }
func (d dirNames) vm() string   { return filepath.Join(string(d), "vm") }

func (d dirNames) snapshot(name string) snapshotDir {
	return snapshotDir(filepath.Join(string(d), name))
}

// snapshotDir is the directory of one snapshot.
type snapshotDir string

func (s snapshotDir) memory() string   { return filepath.Join(string(s), "memory") }
func (s snapshotDir) state() string    { return filepath.Join(string(s), "state") }
func (s snapshotDir) manifest() string { return filepath.Join(string(s), "manifest.json") }
