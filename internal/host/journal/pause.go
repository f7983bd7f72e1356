package journal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/wrenn-dev/wrenn/internal/linux/durable"
)

// The record of a pause outlives a crash of the host, and so must the ones that
// are written over it while the sandbox is paused. Each of them is replaced without
// a sync, which is cheap, and which XFS may turn into an empty file: the rename can
// reach the disk before the content does. Therefore the record that was synced
// keeps a second name, to which Read goes back, until something that it describes
// is changed for good.

// pauseFileName is the second name of the last record that WritePause wrote.
const pauseFileName = "record.pause.json"

// ErrLost is the error of a record whose content a crash of the host has taken.
var ErrLost = errors.New("the content of the record was lost in a crash of the host")

// WritePause replaces the record in dir atomically. When it returns nil the record
// is on the disk, with the files that were synced before, and a crash of the host
// leaves it to Read until DropPause.
func (r *Record) WritePause(dir string) error {
	data, err := r.encode()
	if err != nil {
		return err
	}
	saved, path := filepath.Join(dir, pauseFileName), filepath.Join(dir, FileName)
	if err := errors.Join(durable.Replace(saved, data, 0o600), durable.Sync(saved)); err != nil {
		return err
	}
	if err := linkOver(saved, path); err != nil {
		// A file system without hard links.
		return durable.WriteFile(path, data, 0o600)
	}
	return durable.Sync(dir)
}

// linkOver makes path another name of the file saved.
func linkOver(saved, path string) error {
	// Not the temporary name of Replace, which would write through a link that the
	// end of an agent left.
	tmp := path + ".link"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(saved, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// KeepsPause reports whether dir holds a record of WritePause.
func KeepsPause(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, pauseFileName))
	return err == nil
}

// DropPause takes away the record that WritePause left, before something that it
// describes is changed. File systems keep the order of changes to names, so that
// nothing has to be synced where the change is one of a name. Before a change to
// the content of a file, synced is needed: then the names in dir, that of the last
// record among them, are on the disk.
func DropPause(dir string, synced bool) error {
	err := os.Remove(filepath.Join(dir, pauseFileName))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil || !synced {
		return err
	}
	return durable.Sync(dir)
}
