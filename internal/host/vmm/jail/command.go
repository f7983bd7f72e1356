package jail

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Launcher holds the launcher program ready. It is safe for use by several
// goroutines.
type Launcher struct {
	program *os.File // in memory, sealed
	mounts  *os.File // a mount namespace without anything of the host's
}

// firstFile is the descriptor number of the first of Command's files.
const firstFile = 3

// namespaces are those that a process starts in. A mount namespace and a cgroup
// namespace it makes itself.
const namespaces = unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// New returns a Launcher that runs program, the binary of cmd/wrenn-jail. It is
// kept in memory, where no other process can change it.
func New(program []byte) (*Launcher, error) {
	if len(program) == 0 {
		return nil, errors.New("the launcher of VM processes is empty")
	}
	f, err := memoryFile(program)
	if err != nil {
		return nil, fmt.Errorf("keep the launcher of VM processes: %w", err)
	}
	l := &Launcher{program: f}
	if l.mounts, err = l.emptyMounts(); err != nil {
		return nil, errors.Join(fmt.Errorf("make a mount namespace for VM processes: %w", err), f.Close())
	}
	return l, nil
}

func memoryFile(data []byte) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("wrenn-jail", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("wrenn-jail", flags)
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "wrenn-jail")
	if _, err = f.Write(data); err == nil {
		const seals = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// emptyMounts has a launcher make the namespace and opens that, which keeps it
// when the launcher has ended.
func (l *Launcher) emptyMounts() (mounts *os.File, err error) {
	cmd := l.command(argMounts, unix.CLONE_NEWNS)
	var messages bytes.Buffer
	cmd.Stderr = &messages
	hold, err1 := cmd.StdinPipe()
	said, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	answer := make([]byte, len(mountsReady))
	if _, err = io.ReadFull(said, answer); err == nil {
		mounts, err = os.Open(fmt.Sprintf("/proc/%d/ns/mnt", cmd.Process.Pid))
	}
	err = errors.Join(err, hold.Close(), cmd.Wait())
	if err != nil {
		_ = mounts.Close() // a nil one does nothing
		return nil, fmt.Errorf("%w: %s", err, messages.String())
	}
	return mounts, nil
}

func (l *Launcher) command(arg string, namespaces uintptr) *exec.Cmd {
	return &exec.Cmd{
		// By the agent's number: in a new PID namespace /proc/self is nobody.
		Path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), l.program.Fd()),
		Args: []string{"wrenn-jail", arg}, Dir: "/",
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Cloneflags: namespaces},
	}
}

// Command returns the command that starts s. files are the descriptors from 3
// on; the number of a nil one is closed in the process. The caller may set
// Stderr, on which the launcher reports failures, and the cgroup.
func (l *Launcher) Command(s Spec, files ...*os.File) (*exec.Cmd, error) {
	for i, f := range files {
		if f != nil {
			s.Keep = append(s.Keep, firstFile+i)
		}
	}
	s.Mounts = firstFile + len(files)
	spec, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	cmd := l.command(string(spec), namespaces)
	// A search for VM processes by their environment finds the launcher too.
	cmd.Env, cmd.ExtraFiles = s.Env, append(slices.Clip(files), l.mounts)
	return cmd, nil
}
