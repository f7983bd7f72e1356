package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// EventType is the kind of a change to a path.
type EventType uint8

// The events, in the order in which simultaneous ones are reported.
const (
	Created EventType = iota + 1
	Renamed
	Chmodded
	Written
	Removed
	// Overflowed means that changes were lost.
	Overflowed
)

// Event is one change below a watched directory.
type Event struct {
	// Name is relative to the watched directory; "." is itself.
	Name string
	Type EventType
	// Entry describes the path, if WatchSpec.Entries is set and it still exists.
	Entry *Entry
}

// WatchSpec selects the directory and the events of a watch.
type WatchSpec struct {
	Path      string
	Recursive bool
	// Entries fills in Event.Entry.
	Entries bool
	// Network allows network file systems, on which the kernel does not report the
	// changes of other machines.
	Network bool
	// KeepOn makes lost changes an event of the type Overflowed with the name ".", after
	// which the watch covers the directories that are there then. Without it they are a
	// failure of the watch.
	KeepOn bool
}

// maxWatchedDirs bounds the directories of one recursive watch.
const maxWatchedDirs = 8192

// Watch receives changes below one directory from its creation on. One goroutine calls
// Run; others may call Drain meanwhile. The kernel queues events until one of them reads
// them. If the queue overflows, that one fails.
type Watch struct {
	files *Files
	spec  WatchSpec
	file  *os.File

	mu sync.Mutex // held from the read of events until they are handled; protects the following
	// buf holds the events of one read.
	buf [16 << 10]byte
	// dirs maps watch descriptors to directories relative to spec.Path.
	dirs map[int32]string
	// announced are paths reported as created by the scan of a new directory, whose
	// own events may follow.
	announced map[string]bool
	// written is the rename of a temporary file that has begun.
	written writtenFile
}

// Watch starts watching. A missing directory is NotFound, a file Invalid. The
// caller closes the watch.
func (f *Files) Watch(spec WatchSpec) (*Watch, error) {
	fi, err := os.Stat(spec.Path)
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return nil, errMissing(spec.Path, err)
	case err != nil:
		return nil, classify(spec.Path, err)
	case !fi.IsDir():
		return nil, errNotDirectory(spec.Path, nil)
	case !spec.Network && onNetwork(spec.Path):
		return nil, fault.New(fault.Invalid, "network_mount", "path '%s' is on a network file system, whose changes are only seen in part", spec.Path)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fault.Wrap(err, fault.Quota, "too_many_watches", "the sandbox has no watches left")
	}
	w := &Watch{
		files: f, spec: spec, file: os.NewFile(uintptr(fd), "inotify"),
		dirs: make(map[int32]string), announced: make(map[string]bool),
	}
	if err := w.add(".", func(string) {}); err != nil {
		_ = w.Close()
		return nil, err
	}
	return w, nil
}

// onNetwork reports whether path is on a network file system.
func onNetwork(path string) bool {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return false
	}
	switch int64(st.Type) {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC,
		unix.V9FS_MAGIC, unix.FUSE_SUPER_MAGIC:
		return true
	}
	return false
}

// Close ends the watch.
func (w *Watch) Close() error { return w.file.Close() }

const watchMask = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_MODIFY |
	unix.IN_ATTRIB | unix.IN_DELETE | unix.IN_ONLYDIR | unix.IN_EXCL_UNLINK

// add watches the directory dir (relative) and, in a recursive watch, those
// below it. It calls found with every path seen on the way.
func (w *Watch) add(dir string, found func(name string)) error {
	if err := w.addOne(dir); err != nil || !w.spec.Recursive {
		return err
	}
	children, err := os.ReadDir(filepath.Join(w.spec.Path, dir))
	if err != nil {
		return nil // gone again
	}
	for _, c := range children {
		name := filepath.Join(dir, c.Name())
		found(name)
		if c.Type()&fs.ModeDir != 0 {
			if err := w.add(name, found); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *Watch) addOne(dir string) error {
	if len(w.dirs) >= maxWatchedDirs {
		return fault.New(fault.TooLarge, "too_many_directories", "a watch may cover at most %d directories", maxWatchedDirs)
	}
	mask := uint32(watchMask)
	if dir == "." {
		mask |= unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	} else {
		mask |= unix.IN_DONT_FOLLOW
	}
	var wd int
	err := onDescriptor(w.file, func(fd int) (err error) {
		wd, err = unix.InotifyAddWatch(fd, filepath.Join(w.spec.Path, dir), mask)
		return err
	})
	switch {
	case err == nil:
		w.dirs[int32(wd)] = dir
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.ENOMEM):
		return fault.Wrap(err, fault.Quota, "too_many_watches", "the sandbox has no watches left")
	case dir != ".":
		return nil // gone again, or not ours to see
	default:
		return classify(w.spec.Path, err)
	}
}

// Run hands every change to emit until ctx ends, and then returns ctx's cause.
func (w *Watch) Run(ctx context.Context, emit func(Event) error) error {
	stop := context.AfterFunc(ctx, func() { _ = w.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	conn, err := w.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("read watch: %w", err)
	}
	for {
		var failed error
		err := conn.Read(func(fd uintptr) bool {
			var more bool
			more, failed = w.step(int(fd), emit)
			return more || failed != nil
		})
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("read watch: %w", err)
		case failed != nil:
			return failed
		}
	}
}

// Drain hands the changes that have happened before the call to emit, as far as Run has
// not. It does not wait.
func (w *Watch) Drain(emit func(Event) error) error {
	return onDescriptor(w.file, func(fd int) error {
		for {
			if more, err := w.step(fd, emit); err != nil || !more {
				return err
			}
		}
	})
}

// step reads events without waiting and handles them. more is false if there are none.
func (w *Watch) step(fd int, emit func(Event) error) (more bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := unix.Read(fd, w.buf[:])
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false, nil
	case errors.Is(err, unix.EINTR):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("read watch: %w", err)
	}
	for _, raw := range parseInotify(w.buf[:n]) {
		if err := w.handle(raw, emit); err != nil {
			return false, err
		}
	}
	return n > 0, nil
}

// handle emits the events that one event of the kernel means.
func (w *Watch) handle(raw inotifyEvent, emit func(Event) error) error {
	if raw.mask&unix.IN_Q_OVERFLOW != 0 && w.spec.KeepOn {
		if err := w.add(".", func(string) {}); err != nil {
			return err
		}
		return emit(Event{Name: ".", Type: Overflowed})
	}
	if raw.mask&unix.IN_Q_OVERFLOW != 0 {
		return fault.New(fault.Quota, "watch_overflow", "changes came faster than they were read: some were lost")
	}
	dir, known := w.dirs[raw.wd]
	if !known {
		return nil
	}
	if raw.mask&unix.IN_IGNORED != 0 {
		delete(w.dirs, raw.wd)
		return nil
	}
	if w.hides(raw) {
		return nil
	}
	name := filepath.Join(dir, raw.name)
	isDir := raw.mask&unix.IN_ISDIR != 0
	if isDir && raw.mask&unix.IN_MOVED_FROM != 0 {
		w.forget(name)
	}
	for _, t := range w.typesOf(raw) {
		if t == Created && w.announced[name] {
			delete(w.announced, name)
			continue
		}
		if err := emit(w.event(name, t)); err != nil {
			return err
		}
	}
	if isDir && w.spec.Recursive && raw.mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0 {
		return w.follow(name, emit)
	}
	return nil
}

// follow adds a new directory to the watch, and reports the entries that were made
// in it before it was watched.
func (w *Watch) follow(dir string, emit func(Event) error) error {
	clear(w.announced)
	var names []string
	if err := w.add(dir, func(name string) { names = append(names, name) }); err != nil {
		return err
	}
	for _, name := range names {
		if isTemporary(filepath.Base(name)) {
			continue
		}
		w.announced[name] = true
		if err := emit(w.event(name, Created)); err != nil {
			return err
		}
	}
	return nil
}

// forget stops watching dir, which has moved away, and the directories below it.
func (w *Watch) forget(dir string) {
	for wd, name := range w.dirs {
		if name == dir || strings.HasPrefix(name, dir+"/") {
			delete(w.dirs, wd)
			_ = onDescriptor(w.file, func(fd int) error {
				_, err := unix.InotifyRmWatch(fd, uint32(wd))
				return err
			})
		}
	}
}

func (w *Watch) event(name string, t EventType) Event {
	e := Event{Name: name, Type: t}
	if w.spec.Entries && (t == Created || t == Written || t == Chmodded) {
		if entry, err := w.files.Stat(filepath.Join(w.spec.Path, name)); err == nil {
			e.Entry = &entry
		}
	}
	return e
}
