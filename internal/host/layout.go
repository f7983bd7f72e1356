package host

import (
	"path/filepath"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/host/instance"
	"github.com/wrenn-dev/wrenn/internal/host/snapshot"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// layout names the files of the agent's data directory:
//
//	<data>/lock                          held while an agent runs
//	<data>/format                        the version of all that follows
//	<data>/sandboxes/<name>/record.json  the journal of one sandbox or warm clone
//	<data>/sandboxes/<name>/disk         its writable disk, unless the driver keeps it
//	<data>/sandboxes/<name>/disk.next    the disk of a resume that is not committed yet
//	<data>/sandboxes/<name>/processes    records of the processes that boots have ended
//	<data>/sandboxes/<name>/processes.next  those that the next boot ends
//	<data>/sandboxes/<name>/disk.content the content of a disk of the driver, during a boot
//	<data>/sandboxes/<name>/boot-<generation>/  the base of a VM that booted from its disk
//	<data>/sandboxes/<name>/pause-<generation>/  a pause: a delta of the driver, and its manifest
//	<data>/sandboxes/<name>/vm/          the VM process's own directory
//	<data>/templates/<key>.<id>/         a template snapshot
//	<data>/damaged/<name>/             a sandbox whose record was lost, see setAside
//	<data>/snapshots/<id>/               a named snapshot
//	<data>/vmm/<id>/                     a kept build of QEMU, see package emulator
//	<data>/runsc/<id>/                   a kept build of runsc, see package runsc
//	<data>/builds/<id>/                  a VM that is to become a template snapshot
//
// Directory, control group and network have one name. It is the sandbox's id, or,
// for a sandbox that came from the warm pool, an id of its own.
type layout struct {
	root string
	// old: the directories have the names of format 1, see newNames.
	old bool
}

func (l layout) lock() string      { return filepath.Join(l.root, "lock") }
func (l layout) format() string    { return filepath.Join(l.root, "format") }
func (l layout) machines() string  { return l.directory("s") }
func (l layout) templates() string { return l.directory("t") }
func (l layout) snapshots() string { return l.directory("n") }
func (l layout) builds() string    { return l.directory("b") }

// newNames are the names of directories since format 2, by those before it.
var newNames = map[string]string{"s": "sandboxes", "t": "templates", "n": "snapshots", "b": "builds"}

// damaged holds sandboxes whose record is lost.
func (l layout) damaged() string { return filepath.Join(l.root, "damaged") }

func (l layout) directory(oldName string) string {
	if l.old {
		return filepath.Join(l.root, oldName)
	}
	return filepath.Join(l.root, newNames[oldName])
}

// today returns the present path of a file whose path was stored, or given to a
// process, maybe under format 1. Other paths are returned as they are.
func (l layout) today(path string) string {
	rel, below := strings.CutPrefix(path, filepath.Clean(l.root)+"/")
	first, rest, _ := strings.Cut(rel, "/")
	if name, renamed := newNames[first]; below && renamed && !l.old {
		return filepath.Join(l.root, name, rest)
	}
	return path
}

func (l layout) machine(name string) instance.Dir {
	return instance.Dir(filepath.Join(l.machines(), name))
}

func (l layout) snapshot(id sandbox.SnapshotID) snapshot.Dir {
	return snapshot.Dir(filepath.Join(l.snapshots(), string(id)))
}
