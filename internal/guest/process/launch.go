package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// stdio holds the three standard files of a command, and the agent's ends of
// them.
type stdio struct {
	child   [3]uintptr
	input   *os.File // nil without stdin; the master for a terminal
	sources []source
	// inherited are the child's ends, to be closed here once it has them.
	inherited []int
	terminal  bool
}

// pipe returns a pipe with our end non-blocking and the child's end blocking,
// as programs expect.
func pipe(weRead bool) (ours *os.File, childs int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, -1, fmt.Errorf("make pipe: %w", err)
	}
	our, childs := p[1], p[0]
	if weRead {
		our, childs = p[0], p[1]
	}
	if err := unix.SetNonblock(our, true); err != nil {
		_, _ = unix.Close(our), unix.Close(childs)
		return nil, -1, fmt.Errorf("set pipe non-blocking: %w", err)
	}
	return os.NewFile(uintptr(our), "|"), childs, nil
}

// open makes the files that spec requires. On error it leaves none open.
func (s *stdio) open(spec *Spec) (err error) {
	defer func() {
		if err != nil {
			s.closeInherited()
			s.closeOurs()
		}
	}()
	if spec.Terminal != nil {
		return s.openTerminal(spec)
	}
	if err := s.openStdin(spec.Stdin); err != nil {
		return err
	}
	for i, kind := range []Kind{Stdout, Stderr} {
		ours, childs, err := pipe(true)
		if err != nil {
			return err
		}
		s.sources = append(s.sources, source{kind, ours})
		s.give(i+1, childs)
	}
	return nil
}

func (s *stdio) openTerminal(spec *Spec) error {
	master, slave, err := terminal(*spec.Terminal, spec.Credential.UID)
	if err != nil {
		return err
	}
	s.terminal, s.input = true, master
	s.sources = []source{{Terminal, master}}
	s.inherited = []int{slave}
	for i := range s.child {
		s.child[i] = uintptr(slave)
	}
	return nil
}

func (s *stdio) openStdin(wanted bool) error {
	if wanted {
		ours, childs, err := pipe(false)
		if err != nil {
			return err
		}
		s.input = ours
		s.give(0, childs)
		return nil
	}
	fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	s.give(0, fd)
	return nil
}

func (s *stdio) give(index, fd int) {
	s.child[index] = uintptr(fd)
	s.inherited = append(s.inherited, fd)
}

func (s *stdio) closeInherited() {
	for _, fd := range s.inherited {
		_ = unix.Close(fd)
	}
	s.inherited = nil
}

func (s *stdio) closeOurs() {
	if s.input != nil {
		_ = s.input.Close()
	}
	for _, src := range s.sources {
		_ = src.file.Close()
	}
}

// launch starts path as spec says, as the leader of a session and a process
// group of its own, inside group. The pidfd is non-blocking, for the poller.
func launch(path string, spec *Spec, files *stdio, group Group) (pid int, pidfd *os.File, err error) {
	fd := -1
	attr := &syscall.ProcAttr{
		Dir:   spec.Dir,
		Env:   spec.Env,
		Files: files.child[:],
		Sys: &syscall.SysProcAttr{
			Setsid:     true,
			Setctty:    files.terminal,
			PidFD:      &fd,
			Credential: credential(spec.Credential),
		},
	}
	if dir := group.Dir(); dir >= 0 {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, dir
	}
	pid, err = syscall.ForkExec(path, append([]string{spec.Cmd}, spec.Args...), attr)
	if err != nil {
		return 0, nil, err
	}
	if fd < 0 {
		// Kernels without pidfd (before 5.4) are not supported.
		abandon(pid)
		return 0, nil, syscall.ENOSYS
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		abandon(pid)
		return 0, nil, err
	}
	return pid, os.NewFile(uintptr(fd), "pidfd"), nil
}

// credential returns nil when this process already runs as c, so that the package
// also works without privileges.
func credential(c Credential) *syscall.Credential {
	if os.Getuid() != 0 && int(c.UID) == os.Getuid() {
		return nil
	}
	return &syscall.Credential{Uid: c.UID, Gid: c.GID, Groups: c.Groups}
}

// abandon ends and reaps a child that cannot be supervised.
func abandon(pid int) {
	_ = unix.Kill(-pid, unix.SIGKILL)
	_, _ = unix.Wait4(pid, nil, 0, nil)
}

// exposeToOOM makes the group's processes ordinary targets of the kernel's
// out-of-memory killer, because they inherit the agent's own protection. Passes
// repeat until one finds no new process, so that a child forked in between is found
// too.
func exposeToOOM(pid int, group Group) {
	done := map[int]bool{pid: true}
	setOOMScore(pid)
	for range 8 {
		members, err := group.Members()
		if err != nil {
			return
		}
		fresh := false
		for _, m := range members {
			if !done[m] {
				done[m], fresh = true, true
				setOOMScore(m)
			}
		}
		if !fresh {
			return
		}
	}
}

// isProtected reports whether this process has a score of its own for the
// out-of-memory killer, which its children inherit.
func isProtected() bool {
	score, err := os.ReadFile("/proc/self/oom_score_adj")
	return err != nil || strings.TrimSpace(string(score)) != "0"
}

// setOOMScore ignores errors: the process may have ended by now.
func setOOMScore(pid int) {
	_ = os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte("0"), 0)
}
