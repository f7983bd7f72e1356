package gvisor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

// panicBytes bounds the report of a sentry that crashed.
const panicBytes = 2 << 10

// report collects the beginning of the report of a crashed sentry. The sentry writes it
// to a FIFO like the console: in a file, one that was taken over could fill the host's
// disk.
type report struct {
	reader *os.File

	mu   sync.Mutex // protects the following, and is held while reading
	head []byte
}

func reportPath(dir string) string { return filepath.Join(dir, "panic.log") }

// openReport opens the report of the sentry in dir and begins to read it. The caller
// closes it.
func openReport(dir string) (*report, error) {
	reader, err := openFIFO(reportPath(dir))
	if err != nil {
		return nil, err
	}
	conn, err := reader.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, reader.Close())
	}
	r := &report{reader: reader}
	// A sentry that found the FIFO full would wait, and not end.
	go func() {
		_ = fault.Caught(func() error { return conn.Read(func(fd uintptr) bool { r.drain(int(fd)); return false }) })
	}()
	return r, nil
}

// drain reads until the FIFO is empty and keeps the first panicBytes.
func (r *report) drain(fd int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	buf := make([]byte, 4<<10)
	for {
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n <= 0 {
			return
		}
		r.head = append(r.head, buf[:min(n, panicBytes-len(r.head))]...)
	}
}

// text returns the report of a sentry that has ended as one line, or nothing.
func (r *report) text() string {
	if conn, err := r.reader.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) { r.drain(int(fd)) })
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return untrusted.Line(strings.TrimSpace(string(r.head)), panicBytes)
}
