package host

import (
	"path/filepath"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// layout names the files of the agent's data directory:
//
//	<data>/lock                        held while an agent runs
//	<data>/format                      the version of all that follows
//	<data>/s/<name>/record.json        the journal of one machine
//	<data>/s/<name>/disk               its writable disk
//	<data>/s/<name>/disk.next          the disk of a resume that is not committed yet
//	<data>/s/<name>/boot-memory        memory of a cold boot: a hole
//	<data>/s/<name>/pause-<generation>/  memory difference and device state of a pause
//	<data>/s/<name>/vm/                the VM process's own directory
//	<data>/t/<key>.<id>/               a template snapshot
//	<data>/n/<id>/                     a named snapshot
//	<data>/vmm/<id>/                   a kept build of the VMM, see package emulator
//	<data>/b/<id>/                     a machine that is to become a template snapshot
//
// A machine's name is that of its directory, control group and network. It is
// the sandbox's id, or for one that came from the warm pool an id of its own.
type layout struct{ root string }

func (l layout) lock() string      { return filepath.Join(l.root, "lock") }
func (l layout) format() string    { return filepath.Join(l.root, "format") }
func (l layout) machines() string  { return filepath.Join(l.root, "s") }
func (l layout) templates() string { return filepath.Join(l.root, "t") }
func (l layout) snapshots() string { return filepath.Join(l.root, "n") }
func (l layout) builds() string    { return filepath.Join(l.root, "b") }

func (l layout) machine(name string) dirNames {
	return dirNames(filepath.Join(l.machines(), name))
}

func (l layout) snapshot(id sandbox.SnapshotID) snapshotDir {
	return snapshotDir(filepath.Join(l.snapshots(), string(id)))
}

// dirNames is the directory of one machine.
type dirNames string

func (d dirNames) disk() string       { return filepath.Join(string(d), "disk") }
func (d dirNames) nextDisk() string   { return filepath.Join(string(d), "disk.next") }
func (d dirNames) bootMemory() string { return filepath.Join(string(d), "boot-memory") }
func (d dirNames) vm() string         { return filepath.Join(string(d), "vm") }

func (d dirNames) pause(name string) snapshotDir {
	return snapshotDir(filepath.Join(string(d), name))
}

// snapshotDir is the directory of one snapshot. A base, from which machines
// are made, holds a whole memory and a disk; that of a paused machine holds a
// difference from its base, and the disk is the machine's. Once complete
// neither ever changes.
type snapshotDir string

func (s snapshotDir) memory() string   { return filepath.Join(string(s), "memory") }
func (s snapshotDir) diff() string     { return filepath.Join(string(s), "diff") }
func (s snapshotDir) state() string    { return filepath.Join(string(s), "state") }
func (s snapshotDir) disk() string     { return filepath.Join(string(s), "disk") }
func (s snapshotDir) manifest() string { return filepath.Join(string(s), "manifest.json") }

// deleted marks a named snapshot that is only kept for its users.
func (s snapshotDir) deleted() string { return filepath.Join(string(s), "deleted") }
