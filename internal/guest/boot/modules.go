package boot

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Directories of modules in the initramfs: of those that a boot needs, and of those that
// are loaded when the agent runs.
const (
	bootModules  = "/m"
	laterModules = "/later"
)

// loadModules loads the kernel modules listed in the file order of dir, in that order. A
// line has a file name and the parameters of the module. A module that is loaded already
// is fine. It returns other errors but continues: a driver for absent hardware refuses to
// load, and a missing driver is noticed when its device does not appear. It removes the
// files: the initramfs stays in memory.
func loadModules(dir *os.Root) error {
	order, err := dir.ReadFile("order")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // everything is built in
	}
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(string(order)) {
		name, parameters, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "" {
			continue
		}
		name = filepath.Base(name)
		if err := loadModule(dir, name, parameters); err != nil {
			errs = append(errs, fmt.Errorf("module %s: %w", name, err))
		}
		_ = dir.Remove(name)
	}
	return errors.Join(errs...)
}

func loadModule(dir *os.Root, name, parameters string) error {
	f, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), parameters, 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// later are the modules that Init loads beside the agent.
type later struct {
	dir *os.Root
	// loaded and loading are the ends of a pipe without bytes, which ends when all are
	// loaded. Agents inherit the first, which does not block.
	loaded, loading int
}

// openLater opens the directory at path, to which no path leads from the sandbox's root.
func openLater(path string) (*later, error) {
	dir, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return &later{dir: dir, loaded: ends[0], loading: ends[1]}, nil
}

// laterNice is the nice value of the thread that loads the later modules, so that it hardly
// delays the agent's start. Commands wait for it and leave it the processor.
const laterNice = 10

// load loads the modules in a thread that ends with the calling goroutine.
func (l *later) load() error {
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, laterNice) // of this thread
	err := loadModules(l.dir)
	return errors.Join(err, l.dir.Close(), unix.Close(l.loading))
}

// loadPatience bounds the wait of an agent for modules.
const loadPatience = time.Minute

// awaited is the agent's end of the pipe of later. Its methods may be called from several
// goroutines.
type awaited struct {
	loaded *os.File
	// patience is the longest wait, from the first call of wait on; zero is loadPatience.
	patience time.Duration
	begun    sync.Once
	over     atomic.Bool
}

// wait returns when all modules are loaded. It fails if that takes too long after the first
// call, or the pipe cannot be read. Calls after that time fail at once while a module is not
// loaded, so that a module that hangs delays only the first commands.
func (a *awaited) wait() error {
	if a.over.Load() {
		return nil
	}
	var err error
	a.begun.Do(func() { err = a.loaded.SetReadDeadline(time.Now().Add(cmp.Or(a.patience, loadPatience))) })
	if err != nil {
		return fmt.Errorf("wait for kernel modules: %w", err)
	}
	_, err = a.loaded.Read(make([]byte, 1))
	if errors.Is(err, os.ErrDeadlineExceeded) && a.ended() {
		err = io.EOF
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("wait for kernel modules: %w", err)
	}
	a.over.Store(true)
	return nil
}

// ended reports, without waiting, whether the pipe has ended. A read after the deadline
// does not look at the pipe.
func (a *awaited) ended() bool {
	conn, err := a.loaded.SyscallConn()
	if err != nil {
		return false
	}
	ended := false
	err = conn.Control(func(fd uintptr) {
		n, err := unix.Read(int(fd), make([]byte, 1)) // the pipe does not block
		ended = n == 0 && err == nil
	})
	return ended && err == nil
}
