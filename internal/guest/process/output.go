package process

import (
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	pipeChunk     = 32 << 10
	terminalChunk = 16 << 10
	// drainGrace is the time in which children of an ended command may still add
	// output.
	drainGrace = 100 * time.Millisecond
	// drainLimit is more than a pipe holds (F_GETPIPE_SZ is 64 KiB unless
	// raised), so that a child that never stops writing cannot delay the end.
	drainLimit = 1 << 20
)

// source is one stream of a command's output.
type source struct {
	kind Kind
	file *os.File // non-blocking, so that deadlines work
}

// chunks are the buffers of pumps. They would be most of the garbage of a short
// command.
var chunks = sync.Pool{New: func() any { return new([pipeChunk]byte) }}

func (s source) chunk() int {
	if s.kind == Terminal {
		return terminalChunk
	}
	return pipeChunk
}

// pump publishes the output of s until its end, or until the deadline that the end
// of the main process sets. It reports whether the stream is still open.
func (s source) pump(j *journal) (open bool) {
	chunk := chunks.Get().(*[pipeChunk]byte)
	defer chunks.Put(chunk)
	buf := chunk[:s.chunk()]
	for {
		n, err := s.file.Read(buf)
		if n > 0 {
			j.publish(s.kind, buf[:n])
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return s.drain(j, buf)
		}
		if err != nil {
			return false
		}
	}
}

// drain publishes the output of s that the kernel has buffered, without waiting.
// It reports whether the stream is still open.
func (s source) drain(j *journal, buf []byte) (open bool) {
	if s.file.SetReadDeadline(time.Time{}) != nil {
		return false
	}
	raw, err := s.file.SyscallConn()
	if err != nil {
		return false
	}
	for total := 0; total < drainLimit; {
		var n int
		var errno error
		err := raw.Read(func(fd uintptr) bool {
			n, errno = unix.Read(int(fd), buf)
			return true
		})
		switch {
		case err != nil:
			return false
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			return true
		case errno != nil || n <= 0:
			return false
		}
		j.publish(s.kind, buf[:n])
		total += n
	}
	return true
}

// discard reads s until its end, for children that still write to it.
func (s source) discard() {
	buf := make([]byte, 4<<10)
	for {
		if _, err := s.file.Read(buf); err != nil {
			return
		}
	}
}
