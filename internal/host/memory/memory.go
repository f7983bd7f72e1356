// Package memory writes and reads guest memory files: it finds the pages that a VM
// has changed and writes them to a file from which the VM can be restored.
//
// There are two kinds of file. A whole memory ([Whole], into a copy of the base)
// can be mapped by any number of VMs, which share its pages. A difference
// ([WriteDiff], [Apply]) holds only the pages that one VM has changed: its size and cost
// grow with the number of those pages, not with the size of the VM.
//
// It works from outside the VM process, through its page map (Linux
// admin-guide/mm/pagemap.rst), the same way for every VMM: guest memory is a
// private mapping of a base file, so that a page the VM has written is an
// anonymous page and every other page is still the file's. Package vmm/mapped
// calls it for the drivers of such VMs; the VM must be paused meanwhile, unless a
// function says otherwise.
package memory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// PageSize is the size of a page on every machine that Wrenn runs on.
const PageSize = 4096

// Bits of a page map entry.
const (
	bitFileOrShared = 1 << 61
	bitSwapped      = 1 << 62
	bitPresent      = 1 << 63
)

// Stats describes a capture; sizes are in bytes.
type Stats struct {
	// Total is the size of guest memory.
	Total int64
	// Dirty is the size of the pages that the VM has written since it was started from the base;
	// Zero is the part of Dirty that holds only zeros and takes no space.
	Dirty, Zero int64
	// Kept is the part of Dirty that WriteDiff has written. Pages that are as they were
	// in the base are left out.
	Kept int64
}

// CreateBase makes a sparse file of size bytes for a VM that boots cold. Its
// guest memory starts as zeros.
func CreateBase(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// process hands every page that pid has changed in its mapping of base to put.
func (c *capture) process(ctx context.Context, pid int, base string) error {
	regions, err := mappings(pid, base)
	if err != nil {
		return err
	}
	c.pid = pid
	if c.pagemap, err = os.Open(fmt.Sprintf("/proc/%d/pagemap", pid)); err != nil {
		return err
	}
	defer c.pagemap.Close()
	for _, r := range regions {
		if err := c.region(ctx, r); err != nil {
			return fmt.Errorf("copy memory of process %d: %w", pid, err)
		}
	}
	return nil
}

// copyPages is how many pages are read at once; scanPages how many page map
// entries.
const (
	copyPages = 256
	scanPages = 64 << 10
)

// capture walks through the changed pages of one process.
type capture struct {
	pid     int
	pagemap *os.File
	buf     []byte
	pending []piece // runs that are to be read into buf
	filled  int64   // how much of buf they take
	stats   Stats
	// put takes data, which is whole pages, either all zero or all not, and is
	// only valid during the call, for offset off of guest memory.
	put func(off int64, data []byte, zero bool) error
}

// piece is a run of dirty pages that is to be read: size bytes at address of
// the process, which are at offset off of guest memory.
type piece struct {
	address, off, size int64
}

// maxPieces is how many runs are read with one system call (UIO_MAXIOV of
// process_vm_readv(2)).
const maxPieces = 1024

// region copies the dirty pages of one mapping, runs of neighbours at once.
func (c *capture) region(ctx context.Context, r region) error {
	c.stats.Total += r.size
	entries := make([]byte, scanPages*8)
	for done := int64(0); done < r.size; done += scanPages * PageSize {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(scanPages, (r.size-done)/PageSize)
		chunk := entries[:n*8]
		if _, err := c.pagemap.ReadAt(chunk, (r.address+done)/PageSize*8); err != nil {
			return fmt.Errorf("read page map: %w", err)
		}
		for start, end := nextRun(chunk, 0); start < end; start, end = nextRun(chunk, end) {
			first := done + int64(start)*PageSize
			p := piece{address: r.address + first, off: r.offset + first, size: int64(end-start) * PageSize}
			if err := c.add(p); err != nil {
				return err
			}
		}
	}
	return c.read()
}

// add reads the pending pages if p does not fit beside them.
func (c *capture) add(p piece) error {
	if c.filled+p.size > int64(len(c.buf)) || len(c.pending) == maxPieces {
		if err := c.read(); err != nil {
			return err
		}
	}
	c.pending = append(c.pending, p)
	c.filled += p.size
	return nil
}

// read reads the pending pages and hands them on.
func (c *capture) read() error {
	if len(c.pending) == 0 {
		return nil
	}
	remote := make([]unix.RemoteIovec, len(c.pending))
	for i, p := range c.pending {
		remote[i] = unix.RemoteIovec{Base: uintptr(p.address), Len: int(p.size)}
	}
	local := []unix.Iovec{{Base: &c.buf[0]}}
	local[0].SetLen(int(c.filled))
	n, err := unix.ProcessVMReadv(c.pid, local, remote, 0)
	if err == nil && int64(n) != c.filled {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("read guest memory: %w", err)
	}
	at := int64(0)
	for _, p := range c.pending {
		if err := c.hand(p.off, c.buf[at:at+p.size]); err != nil {
			return err
		}
		at += p.size
	}
	c.pending, c.filled = c.pending[:0], 0
	return nil
}

// nextRun returns the first run of dirty pages at or after page from, at most
// copyPages long, as page numbers in the chunk; start == end when none is left.
func nextRun(chunk []byte, from int) (start, end int) {
	pages := len(chunk) / 8
	for start = from; start < pages && !dirty(chunk, start); start++ {
	}
	for end = start; end < pages && end-start < copyPages && dirty(chunk, end); end++ {
	}
	return start, end
}

func dirty(chunk []byte, page int) bool {
	e := binary.LittleEndian.Uint64(chunk[page*8:])
	return e&bitSwapped != 0 || e&bitPresent != 0 && e&bitFileOrShared == 0
}

// hand passes one run on, in parts that are all zero or all not.
func (c *capture) hand(off int64, data []byte) error {
	c.stats.Dirty += int64(len(data))
	for len(data) > 0 {
		zero, length := span(data)
		if zero {
			c.stats.Zero += length
		}
		if err := c.put(off, data[:length], zero); err != nil {
			return err
		}
		off, data = off+length, data[length:]
	}
	return nil
}

// putWhole writes data where it belongs in a whole memory; zeros as a hole.
func putWhole(dst *os.File, off int64, data []byte, zero bool) error {
	if !zero {
		_, err := dst.WriteAt(data, off)
		return err
	}
	err := unix.Fallocate(int(dst.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, int64(len(data)))
	if errors.Is(err, unix.EOPNOTSUPP) {
		_, err = dst.WriteAt(data, off)
	}
	return err
}

// span returns how many bytes from the start of buf, in whole pages, are
// either all zero or all not.
func span(buf []byte) (zero bool, length int64) {
	zero = isZero(buf[:PageSize])
	length = PageSize
	for length < int64(len(buf)) && isZero(buf[length:length+PageSize]) == zero {
		length += PageSize
	}
	return zero, length
}

func isZero(page []byte) bool {
	for i := 0; i < len(page); i += 8 {
		if binary.LittleEndian.Uint64(page[i:]) != 0 {
			return false
		}
	}
	return true
}
