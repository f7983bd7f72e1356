package filesystem

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// directFrom is the size, in bytes, up to which a file is written as it comes, through
	// the page cache. Programs read small files soon after they were written.
	directFrom = 1 << 20
	// directBuffer is the size, in bytes, of the pieces in which the rest is written.
	directBuffer = 512 << 10
	// directAlign divides their sizes and offsets: the largest block size of a disk for
	// which O_DIRECT asks for alignment (open(2)).
	directAlign = 4096
	// maxDirect is the number of files that have such a buffer at once. The others are
	// written as they come.
	maxDirect = 4
)

// large describes how the content of large files is written.
type large struct {
	// slots has a place for each buffer in use. Nil has no buffers.
	slots chan struct{}
	// bypass passes over the page cache.
	bypass bool
}

// output writes the content of a new file, in order. Beyond directFrom bytes it collects
// large pieces: gVisor takes a fourth less CPU time for them than for pieces of 128 KiB.
// With bypass they pass over the page cache (O_DIRECT), if the file system can do that:
// under emulation that takes a tenth of the CPU time, and a large file does not displace
// the pages of the guest's programs. It is used by one goroutine.
type output struct {
	large
	file *os.File
	// cached is the number of bytes written as they came.
	cached int64
	// buffer holds the next bytes for the disk; the first used of it are valid. It is nil
	// while bytes are written as they come.
	buffer []byte
	used   int
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (written int, err error) {
	for len(p) > 0 {
		if !o.direct() {
			n, err := o.file.Write(p[:min(int64(len(p)), o.room())])
			o.cached += int64(n)
			written, p = written+n, p[n:]
			if err != nil {
				return written, err
			}
			continue
		}
		n := copy(o.buffer[o.used:], p)
		o.used += n
		written, p = written+n, p[n:]
		if err := o.flushFull(); err != nil {
			return written, err
		}
	}
	return written, nil
}

// ReadFrom implements io.ReaderFrom. The kernel moves the content of a connection to a
// file that is written through the page cache (splice(2)).
func (o *output) ReadFrom(r io.Reader) (int64, error) {
	return o.readFrom(r, func(part *io.LimitedReader) (int64, error) { return o.file.ReadFrom(part) })
}

// copyFrom is ReadFrom for readers that are no connections.
func (o *output) copyFrom(r io.Reader) (int64, error) {
	buffer := make([]byte, writeBuffer)
	return o.readFrom(r, func(part *io.LimitedReader) (int64, error) {
		// The bare Writer keeps io.CopyBuffer to our buffer.
		return io.CopyBuffer(struct{ io.Writer }{o.file}, part, buffer)
	})
}

// readFrom writes the content of r. cached writes a part of it as it comes.
func (o *output) readFrom(r io.Reader, cached func(*io.LimitedReader) (int64, error)) (read int64, err error) {
	// The kernel knows a connection through one limit, not through two.
	limited, isLimited := r.(*io.LimitedReader)
	for !o.direct() {
		part := &io.LimitedReader{R: r, N: o.room()}
		if isLimited {
			part = &io.LimitedReader{R: limited.R, N: min(o.room(), limited.N)}
		}
		whole := part.N
		n, err := cached(part)
		o.cached, read = o.cached+n, read+n
		if isLimited {
			limited.N -= n
		}
		if err != nil || n < whole || isLimited && limited.N == 0 {
			return read, err
		}
	}
	for {
		n, err := r.Read(o.buffer[o.used:])
		o.used, read = o.used+n, read+int64(n)
		if flushErr := o.flushFull(); flushErr != nil {
			return read, flushErr
		}
		if err == io.EOF {
			return read, nil
		}
		if err != nil {
			return read, err
		}
	}
}

// room returns the number of bytes that are written next as they come, at least one.
func (o *output) room() int64 {
	if o.slots == nil || o.cached >= directFrom {
		return 1 << 62
	}
	return directFrom - o.cached
}

// direct reports whether the next bytes go into the buffer. It starts that after exactly
// directFrom bytes.
func (o *output) direct() bool {
	if o.buffer != nil {
		return true
	}
	if o.slots == nil || o.cached != directFrom {
		return false
	}
	select {
	case o.slots <- struct{}{}:
	default:
		return false
	}
	if o.passOver(true) == nil {
		// Memory of a mapping begins at a page.
		buffer, err := unix.Mmap(-1, 0, directBuffer, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err == nil {
			o.buffer = buffer
			return true
		}
		_ = o.passOver(false)
	}
	<-o.slots
	o.slots = nil // it is not tried again
	return false
}

// flushFull writes the buffer if it is full.
func (o *output) flushFull() error {
	if o.used < len(o.buffer) {
		return nil
	}
	o.used = 0
	return o.writeDirect(o.buffer)
}

// writeDirect writes whole blocks. File systems of users may accept the flag and refuse
// such writes.
func (o *output) writeDirect(p []byte) error {
	return writeBlocks(o.file, p, func() error { return o.passOver(false) })
}

// writeBlocks writes p to w. If w refuses a part as not aligned (EINVAL), it writes that again
// after a call of useCache. Other errors are returned.
func writeBlocks(w io.Writer, p []byte, useCache func() error) error {
	n, err := w.Write(p)
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	if err := useCache(); err != nil {
		return err
	}
	_, err = w.Write(p[n:])
	return err
}

// finish writes the bytes that are still in the buffer, and frees the buffer. It is called
// once, also after an error.
func (o *output) finish() error {
	if o.buffer == nil {
		return nil
	}
	whole := o.used - o.used%directAlign
	var err error
	if whole > 0 {
		err = o.writeDirect(o.buffer[:whole])
	}
	if err == nil {
		err = o.passOver(false)
	}
	if err == nil && whole < o.used {
		_, err = o.file.Write(o.buffer[whole:o.used])
	}
	err = errors.Join(err, unix.Munmap(o.buffer))
	o.buffer = nil
	<-o.slots
	return err
}

// passOver passes over the page cache from now on, or no longer.
func (o *output) passOver(on bool) error {
	if !o.bypass {
		return nil
	}
	return setDirect(o.file, on)
}

// setDirect sets or clears the flag O_DIRECT of file.
func setDirect(file *os.File, on bool) error {
	return onDescriptor(file, func(fd int) error {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil {
			return err
		}
		flags &^= unix.O_DIRECT
		if on {
			flags |= unix.O_DIRECT
		}
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags)
		return err
	})
}
