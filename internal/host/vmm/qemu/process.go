package qemu

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

// messageBytes is how much of the VMM's own messages is kept for diagnosis.
// The guest can cause messages without bound.
const messageBytes = 8 << 10

// tail keeps the last messageBytes written to it.
type tail struct {
	mu  sync.Mutex // protects the following
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - messageBytes; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

// String returns the messages as one line. Some of them hold text of the guest.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return untrusted.Line(strings.TrimSpace(string(t.buf)), messageBytes)
}

// spawn starts build b for cfg with the descriptors that argv promises. The
// process gets a session of its own and no tie to this one, so that it
// outlives the agent; its messages go to a pipe whose loss it ignores.
func (d *Driver) spawn(b build, cfg vmm.Config, state *os.File) (*exec.Cmd, *tail, error) {
	listener, err := listenMonitor(cfg.Dir)
	if err != nil {
		return nil, nil, err
	}
	defer listener.Close()
	tap, err := cfg.OpenTap()
	if err != nil {
		return nil, nil, fmt.Errorf("open tap: %w", err)
	}
	defer tap.Close()
	kvm, err := d.openKVM(b.version)
	if err != nil {
		return nil, nil, err
	}
	defer kvm.Close() // a nil one does nothing
	path, argv, env := b.Command(b.Dir, d.argv(b.version, cfg, state != nil)...)
	cmd := &exec.Cmd{Path: path, Args: argv, Dir: "/"}
	cmd.Env = append(env, "PATH=/usr/bin:/bin", dirVariable+cfg.Dir)
	cmd.ExtraFiles = []*os.File{listener, tap, state, kvm} // from 3 on; a nil one is closed
	messages := &tail{}
	cmd.Stderr = messages
	cmd.WaitDelay = time.Second // for the pipe, should a descendant hold it
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if cfg.UID != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(cfg.UID), Gid: uint32(cfg.GID), Groups: d.groups(b.version)}
	}
	if cfg.Cgroup != nil {
		cmd.SysProcAttr.UseCgroupFD = true
		cmd.SysProcAttr.CgroupFD = int(cfg.Cgroup.Fd())
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", path, err)
	}
	return cmd, messages, nil
}

// openKVM returns /dev/kvm for a VM process that is to get it open, else nil.
func (d *Driver) openKVM(v version) (*os.File, error) {
	if !d.kvmByFd(v) {
		return nil, nil
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open KVM: %w", err)
	}
	return f, nil
}

func (d *Driver) groups(v version) []uint32 {
	if d.info.Acceleration == vmm.KVM && !d.kvmByFd(v) && d.kvmGroup > 0 {
		return []uint32{uint32(d.kvmGroup)}
	}
	return nil
}

func monitorPath(dir string) string { return filepath.Join(dir, "qmp.sock") }

// listenMonitor makes the QMP socket. QEMU gets it listening, so that a
// connection never has to be tried twice and a later agent can connect again.
func listenMonitor(dir string) (*os.File, error) {
	path := monitorPath(dir)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, err
	}
	return l.File()
}

// identity is what makes a PID name one process for ever.
type identity struct {
	pid        int
	startTicks uint64
}

// startTicks returns field 22 of /proc/PID/stat (proc(5)): when the process
// started, in clock ticks since boot.
func startTicks(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The command name, field 2, is in parentheses and may hold anything.
	end := strings.LastIndexByte(string(data), ')')
	if end < 0 {
		return 0, fmt.Errorf("/proc/%d/stat has no command name", pid)
	}
	fields := strings.Fields(string(data[end+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// openProcess returns a pidfd for id. It is os.ErrProcessDone when that
// process is gone, even if its PID has a new owner.
func openProcess(id identity) (*os.File, error) {
	fd, err := unix.PidfdOpen(id.pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, os.ErrProcessDone
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd_open %d: %w", id.pid, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	// Checked after the open: from here on the pidfd cannot change its owner.
	if ticks, err := startTicks(id.pid); err != nil || ticks != id.startTicks {
		_ = f.Close()
		return nil, os.ErrProcessDone
	}
	return f, nil
}

// waitProcess returns when the process of pidfd has ended, or pidfd is closed.
func waitProcess(pidfd *os.File) error {
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var pollErr error
	err = conn.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		pollErr = err
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
	return errors.Join(err, pollErr)
}

func killProcess(pidfd *os.File) error {
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var killErr error
	err = conn.Control(func(fd uintptr) {
		killErr = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0)
	})
	if errors.Is(killErr, unix.ESRCH) {
		killErr = nil
	}
	return errors.Join(err, killErr)
}

// bootID tells one boot of the host from the next.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}
