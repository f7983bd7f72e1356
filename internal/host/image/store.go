package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/oci"
	"github.com/wrenn-dev/wrenn/internal/linux/durable"
)

// Store is an open image directory. Its methods may be called from several
// goroutines, and several processes may have the same directory open.
//
// Invariants: a path that a method returned keeps its content for as long as
// it exists; the target of "current" is complete and on disk.
type Store struct {
	dir     string
	archive Archive
	// registries says which registries imports may use, and imports bounds the number
	// of those at work.
	registries oci.Policy
	imports    chan struct{}
	// free returns the free space of the disk that holds a directory, in bytes.
	free func(dir string) (uint64, error)
	log  *slog.Logger
	// damaged has the last error of each template that cannot be read, by name.
	damaged sync.Map
}

// Option adjusts a Store.
type Option func(*Store)

// WithArchive makes the store download from a instead of the mirrors that
// the host's own apt uses.
func WithArchive(a Archive) Option { return func(s *Store) { s.archive = a } }

// WithRegistries says which registries imports may use.
func WithRegistries(p oci.Policy) Option { return func(s *Store) { s.registries = p } }

// Open opens the store in dir and creates its missing directories. It neither
// builds nor downloads anything.
func Open(dir string, log *slog.Logger, opts ...Option) (*Store, error) {
	if log == nil {
		return nil, errors.New("image: Open needs a logger")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	unusable := func(err error) error {
		return fault.Wrap(err, fault.Internal, "image_store", "the image directory %s cannot be used", abs)
	}
	if err := mkdir(abs); err != nil {
		return nil, unusable(err)
	}
	// A saved gVisor sandbox names its image, which must have one path for all agents.
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return nil, unusable(err)
	}
	s := &Store{dir: real, log: log, imports: make(chan struct{}, maxImports), free: freeBytes}
	for _, opt := range opts {
		opt(s)
	}
	for _, sub := range []string{"kernels", "initramfs", "agents", "templates", "locks", "tmp"} {
		if err := mkdir(filepath.Join(real, sub)); err != nil {
			return nil, unusable(err)
		}
	}
	return s, nil
}

// Dir returns the absolute path of the store, without symbolic links.
func (s *Store) Dir() string { return s.dir }

// mkdir makes dir and its parents, readable by the users that the tools of a
// build run as, regardless of the umask.
func mkdir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}

// publish moves the finished directory tmp, which becomes root's alone, to
// parent/digest and then points parent/current at it. VMM processes do not pass
// through it: they get files open, or bound into their jail. All of tmp is on disk
// before its name is. An existing copy is replaced, in case it is damaged; VMs that
// use it keep the file they have open.
func publish(tmp, parent, digest string) error {
	if err := os.Chmod(tmp, 0o700); err != nil {
		return err
	}
	if err := durable.SyncFileSystem(tmp); err != nil {
		return err
	}
	final := filepath.Join(parent, digest)
	err := os.Rename(tmp, final)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		err = unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, final, unix.RENAME_EXCHANGE)
	}
	if err != nil {
		return err
	}
	link := filepath.Join(parent, ".current-"+digest)
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(digest, link); err != nil {
		return err
	}
	if err := os.Rename(link, filepath.Join(parent, "current")); err != nil {
		return err
	}
	return durable.Sync(parent)
}

// current returns the digest that parent/current names.
func current(parent string) (string, error) {
	digest, err := os.Readlink(filepath.Join(parent, "current"))
	if err != nil {
		return "", err
	}
	if !validDigest(digest) {
		return "", fmt.Errorf("%s/current names %q, which is no digest", parent, digest)
	}
	return digest, nil
}

func validDigest(s string) bool {
	if len(s) != 64 {
		return false
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
