// Package kept is a directory of immutable builds, one subdirectory each, that live
// until nobody needs them. Packages emulator and runsc define the builds of their
// programs and copy the files; this package owns the names and the life of the
// directories.
//
//	<id>/            a build; its name is derived from its content
//	<id>/build.json  its description, as JSON
//	.new-*, .trash-* builds that are being made or removed
//	lock             held by the process that makes or removes one
//
// # Guarantees
//
//  1. A build appears under its name complete and durable, or not at all.
//  2. One whose description is damaged hides no other, and is replaced when the same
//     content is published again.
//  3. Processes that run a build continue when it is removed or replaced.
//
// The tests of emulator and runsc hold them.
package kept

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/linux/durable"
	"github.com/wrenn-dev/wrenn/internal/linux/flock"
)

// IDLength is the number of hexadecimal digits of an id.
const IDLength = 32

var idPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)

// IsID reports whether name can be the id of a build.
func IsID(name string) bool { return idPattern.MatchString(name) }

// The names in the directory.
const (
	// Description is the name of the file that describes a build.
	Description = "build.json"

	newPrefix   = ".new-"
	trashPrefix = ".trash-"
	lockFile    = "lock"
)

// Dir is a directory of builds. It is safe for concurrent use, also by several
// processes.
type Dir struct {
	path string

	mu       sync.Mutex      // protects the following
	verified map[string]bool // builds whose files this process has read and found whole
}

// Open returns the directory at path, which Lock creates if it is missing. VM
// processes with user ids of their own must be able to pass through those above it.
func Open(path string) *Dir { return &Dir{path: path, verified: make(map[string]bool)} }

// Path is the path of the build id.
func (d *Dir) Path(id string) string { return filepath.Join(d.path, id) }

// ErrDamaged is wrapped by the error of a description that is no JSON.
var ErrDamaged = errors.New("the description is damaged")

// Describe reads the description of the build id into about and returns the time at
// which the build was made. The error wraps os.ErrNotExist if there is no such build,
// and ErrDamaged.
func (d *Dir) Describe(id string, about any) (made time.Time, err error) {
	path := filepath.Join(d.Path(id), Description)
	st, err := os.Stat(path)
	if err != nil {
		return time.Time{}, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return time.Time{}, err
	}
	if err := json.Unmarshal(data, about); err != nil {
		return time.Time{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return st.ModTime(), nil
}

// Builds returns the builds that read returns for the ids in d, the newest first. read
// also returns the time at which the build was made. Builds leaves out those for which
// read fails with os.ErrNotExist, because they are being removed, or skip is true.
func Builds[B any](d *Dir, read func(id string) (B, time.Time, error), skip func(error) bool) ([]B, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	type dated struct {
		build B
		made  time.Time
	}
	var found []dated
	for _, e := range entries {
		if !IsID(e.Name()) {
			continue
		}
		b, made, err := read(e.Name())
		if errors.Is(err, os.ErrNotExist) || err != nil && skip(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, dated{b, made})
	}
	slices.SortStableFunc(found, func(a, b dated) int { return b.made.Compare(a.made) })
	builds := make([]B, len(found))
	for i, f := range found {
		builds[i] = f.build
	}
	return builds, nil
}

// Verify calls check, which reads the files of the build id, unless that has succeeded
// before in this process.
func (d *Dir) Verify(id string, check func() error) error {
	d.mu.Lock()
	done := d.verified[id]
	d.mu.Unlock()
	if done {
		return nil
	}
	if err := check(); err != nil {
		return err
	}
	d.setVerified(id, true)
	return nil
}

func (d *Dir) setVerified(id string, is bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if is {
		d.verified[id] = true
	} else {
		delete(d.verified, id)
	}
}

// lockPoll is the interval at which a held lock is tried again.
const lockPoll = 50 * time.Millisecond

// Lock keeps other makers and removers out, also those of other processes, and removes
// the files that interrupted ones have left. The lock ends with the process.
func (d *Dir) Lock(ctx context.Context) (unlock func(), err error) {
	// Chmod, because VM processes must pass through with any umask.
	if err := errors.Join(os.MkdirAll(d.path, 0o711), os.Chmod(d.path, 0o711)); err != nil {
		return nil, err
	}
	f, err := flock.Open(filepath.Join(d.path, lockFile))
	if err != nil {
		return nil, err
	}
	if err = flock.Wait(ctx, f, lockPoll); err == nil {
		err = d.removeRemains()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

func (d *Dir) removeRemains() error {
	var errs []error
	for _, prefix := range []string{newPrefix, trashPrefix} {
		names, err := filepath.Glob(filepath.Join(d.path, prefix+"*"))
		errs = append(errs, err)
		for _, name := range names {
			errs = append(errs, os.RemoveAll(name))
		}
	}
	return errors.Join(errs...)
}

// New makes a directory for the files of a new build. The caller removes it once
// Publish has returned. The lock must be held.
func (d *Dir) New() (string, error) { return os.MkdirTemp(d.path, newPrefix) }

// Publish writes the description about to tmp, a directory that New has made, and gives
// tmp the name id. A build of that name was damaged and is replaced. All is durable on
// return. The lock must be held.
func (d *Dir) Publish(tmp, id string, about any) error {
	data, err := json.MarshalIndent(about, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, Description), append(data, '\n'), 0o444); err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(tmp, 0o755), durable.SyncTree(tmp)); err != nil {
		return err
	}
	d.setVerified(id, false)
	final := d.Path(id)
	err = unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, final, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		if err = os.RemoveAll(final); err == nil {
			err = os.Rename(tmp, final)
		}
	}
	if err != nil {
		return err
	}
	return durable.Sync(d.path)
}

// Remove removes the build id. Processes that run it continue. An id that is not there
// succeeds.
func (d *Dir) Remove(ctx context.Context, id string) error {
	if !IsID(id) {
		return fmt.Errorf("%q is not the id of a build", id)
	}
	unlock, err := d.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	d.setVerified(id, false)
	trash := filepath.Join(d.path, trashPrefix+id)
	err = os.Rename(d.Path(id), trash)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(trash)
}
