package snapshot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/durable"
)

// Dir is the directory of one snapshot. A base holds a whole saved VM and, unless
// the driver saves it with the VM, a disk.
// The directory of a pause holds a delta over the base of its sandbox, and the
// disk is the sandbox's. Once complete neither ever changes.
type Dir string

// Manifest is the path of the manifest, which is written last.
func (d Dir) Manifest() string { return filepath.Join(string(d), "manifest.json") }

// ManifestSum is the path of the SHA-256 of the manifest, in hex. Snapshots of versions
// before 0.3 have none.
func (d Dir) ManifestSum() string { return filepath.Join(string(d), "manifest.sha256") }

// Disk is the path of a base's disk.
func (d Dir) Disk() string { return filepath.Join(string(d), "disk") }

// File is the path of one of the driver's files.
func (d Dir) File(name string) string { return filepath.Join(string(d), name) }

// Deleted is the path of the file that marks a named snapshot which is only kept
// for its users.
func (d Dir) Deleted() string { return filepath.Join(string(d), "deleted") }

// Recreate makes the directory, empty.
func (d Dir) Recreate() error {
	return errors.Join(os.RemoveAll(string(d)), os.Mkdir(string(d), 0o700))
}

// Publish moves a sealed snapshot to its place, all or nothing.
func (d Dir) Publish(to Dir) error {
	if err := durable.Sync(string(d)); err != nil {
		return err
	}
	if err := os.Rename(string(d), string(to)); err != nil {
		return fault.Wrap(err, fault.HostFailed, "snapshot_failed", "the snapshot could not be stored")
	}
	return durable.Sync(filepath.Dir(string(to)))
}

const (
	// PartialPrefix marks the directory of a snapshot that is being taken.
	PartialPrefix = ".new-"
	trashPrefix   = ".trash-"
)

// IsRemains reports whether dir is the remainder of a snapshot after a crash, or
// one that is being taken or removed.
func IsRemains(dir string) bool {
	name := filepath.Base(dir)
	return strings.HasPrefix(name, trashPrefix) || strings.HasPrefix(name, PartialPrefix)
}
