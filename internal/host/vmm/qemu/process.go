package qemu

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

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
