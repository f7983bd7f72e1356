package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// reportSocket is where a holder answers.
const reportSocket = "/run/probe.sock"

// timerTime is the time after which a holder's timer is due.
const timerTime = 20 * time.Second

// holder is a process that holds things which a pause or a fork could end. The
// command report asks it how they are.
type holder struct {
	count         atomic.Int64
	fired         atomic.Bool
	inside        net.Conn // to an echo in this process
	outside       net.Conn // to an echo outside of the sandbox
	unnamed       *os.File
	mapping       []byte
	watch         int
	watched       string
	master, slave int
}

// hold makes a holder with a connection to an address outside and serves its reports
// until the process is ended.
func hold(outside string) error {
	h := &holder{}
	if err := errors.Join(h.openFiles(), h.openTerminal(), h.connect(outside)); err != nil {
		return err
	}
	go func() {
		for ; ; time.Sleep(20 * time.Millisecond) {
			h.count.Add(1)
		}
	}()
	time.AfterFunc(timerTime, func() { h.fired.Store(true) })
	l, err := net.Listen("unix", reportSocket)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		_, _ = io.WriteString(c, h.report())
		_ = c.Close()
	}
}

func (h *holder) openFiles() (err error) {
	if h.unnamed, err = os.CreateTemp("/var/tmp", "held"); err != nil {
		return err
	}
	if h.mapping, err = unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS); err != nil {
		return err
	}
	copy(h.mapping[1<<19:], "held")
	if h.watched, err = os.MkdirTemp("/var/tmp", "watched"); err != nil {
		return err
	}
	if h.watch, err = unix.InotifyInit1(unix.IN_NONBLOCK); err != nil {
		return err
	}
	_, err = unix.InotifyAddWatch(h.watch, h.watched, unix.IN_CREATE)
	_, err2 := h.unnamed.WriteString("held")
	return errors.Join(err, err2, os.Remove(h.unnamed.Name()),
		os.WriteFile("/var/tmp/on-disk", []byte("held"), 0o600), os.WriteFile("/dev/shm/in-memory", []byte("held"), 0o600))
}

func (h *holder) openTerminal() (err error) {
	if h.master, err = unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NONBLOCK, 0); err != nil {
		return err
	}
	if err := unix.IoctlSetPointerInt(h.master, unix.TIOCSPTLCK, 0); err != nil {
		return err
	}
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(h.master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY)
	if errno != 0 {
		return errno
	}
	h.slave = int(slave)
	return nil
}

func (h *holder) connect(outside string) (err error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c) }()
		}
	}()
	if h.inside, err = net.Dial("tcp4", l.Addr().String()); err != nil {
		return err
	}
	h.outside, err = net.DialTimeout("tcp4", outside, 10*time.Second)
	return err
}

// report describes the held things, a line each: the name and the state.
func (h *holder) report() string {
	var b strings.Builder
	say := func(name string, value any) { fmt.Fprintf(&b, "%s\t%v\n", name, value) }
	say("count", h.count.Load())
	say("timer", map[bool]string{true: "fired", false: "pending"}[h.fired.Load()])
	for name, clock := range map[string]int32{"monotonic": unix.CLOCK_MONOTONIC, "boottime": unix.CLOCK_BOOTTIME, "realtime": unix.CLOCK_REALTIME} {
		var t unix.Timespec
		_ = unix.ClockGettime(clock, &t) // the clocks exist
		say(name, t.Nano())
	}
	say("inside", kept(roundTrip(h.inside)))
	say("outside", kept(roundTrip(h.outside)))
	say("files", kept(h.filesHeld()))
	say("terminal", kept(h.terminalHeld()))
	say("watch", kept(h.watchHeld()))
	random := make([]byte, 8)
	_, _ = rand.Read(random) // it never fails
	say("random", hex.EncodeToString(random))
	say("pid", os.Getpid())
	for name, path := range map[string]string{"boot-id": "/proc/sys/kernel/random/boot_id", "machine-id": "/etc/machine-id", "hostname": "/proc/sys/kernel/hostname"} {
		text, err := os.ReadFile(path)
		say(name, strings.TrimSpace(string(text))+map[bool]string{true: "unreadable"}[err != nil])
	}
	return b.String()
}

func kept(err error) string {
	if err == nil {
		return "kept"
	}
	return err.Error()
}

// roundTrip sends bytes over a connection to an echo.
func roundTrip(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "hello"); err != nil {
		return errors.New("closed")
	}
	if _, err := io.ReadFull(c, make([]byte, 5)); errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("no answer")
	} else if err != nil {
		return errors.New("closed")
	}
	return nil
}

func (h *holder) filesHeld() error {
	text := make([]byte, 4)
	if _, err := h.unnamed.ReadAt(text, 0); err != nil {
		return err
	}
	disk, err := os.ReadFile("/var/tmp/on-disk")
	memory, err2 := os.ReadFile("/dev/shm/in-memory")
	if got := string(text) + string(h.mapping[1<<19:1<<19+4]) + string(disk) + string(memory); got != "heldheldheldheld" {
		err = errors.Join(err, fmt.Errorf("the contents are %q", got))
	}
	return errors.Join(err, err2)
}

func (h *holder) terminalHeld() error {
	if _, err := unix.Write(h.slave, []byte("x")); err != nil {
		return err
	}
	return poll(h.master)
}

func (h *holder) watchHeld() error {
	name := filepath.Join(h.watched, fmt.Sprint(time.Now().UnixNano()))
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		return err
	}
	return poll(h.watch)
}

// poll waits for something to read, for ten seconds.
func poll(fd int) error {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
	if err == nil && n == 0 {
		return errors.New("silent")
	}
	_, err2 := unix.Read(fd, make([]byte, 4096))
	return errors.Join(err, err2)
}

// ask prints the report of the process that answers at a socket.
func ask(socket string) error {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.Copy(os.Stdout, c)
	return err
}
