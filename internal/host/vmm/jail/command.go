package jail

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// Launcher holds the launcher program ready. It is safe for use by several
// goroutines.
type Launcher struct {
	program *os.File // in memory, sealed
}

// firstFile is the descriptor number of the first of Command's files.
const firstFile = 3

// namespaces are those that a process starts in. Its cgroup namespace it makes
// itself, once it is in its cgroup.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// New returns a Launcher that runs program, the binary of cmd/wrenn-jail. It is
// kept in memory, where no other process can change it.
func New(program []byte) (*Launcher, error) {
	if len(program) == 0 {
		return nil, errors.New("the launcher of VM processes is empty")
	}
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("wrenn-jail", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("wrenn-jail", flags)
	}
	if err != nil {
		return nil, fmt.Errorf("keep the launcher of VM processes: %w", err)
	}
	f := os.NewFile(uintptr(fd), "wrenn-jail")
	_, err = f.Write(program)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("keep the launcher of VM processes: %w", err), f.Close())
	}
	return &Launcher{program: f}, nil
}

// Command returns the command that starts s. files are the descriptors from 3
// on; the number of a nil one is closed in the process. The caller may set
// Stderr, on which the launcher reports what fails, and the cgroup.
func (l *Launcher) Command(s Spec, files ...*os.File) (*exec.Cmd, error) {
	for i, f := range files {
		if f != nil {
			s.Keep = append(s.Keep, firstFile+i)
		}
	}
	spec, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	return &exec.Cmd{
		// By the agent's number: in its new PID namespace the launcher has none
		// under /proc/self until it has mounted one, which it never does.
		Path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), l.program.Fd()),
		Args: []string{"wrenn-jail", string(spec)},
		// What finds VM processes by their environment finds the launcher too.
		Env: s.Env, Dir: "/", ExtraFiles: files,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Cloneflags: namespaces},
	}, nil
}
