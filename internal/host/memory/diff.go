package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// WriteDiff writes the pages that process pid has changed in its private mapping of the
// file base to the empty file dst: runs of pages, zeros as runs without data,
// pages that are as they were in base not at all. The process must not run
// meanwhile. The form is that of [table]. dst is not synced.
func WriteDiff(ctx context.Context, pid int, base string, dst *os.File) (Stats, error) {
	before, err := os.Open(base)
	if err != nil {
		return Stats{}, err
	}
	defer before.Close()
	w := diffWriter{dst: dst, base: before, before: make([]byte, copyPages*PageSize), at: PageSize, out: make([]byte, 0, 2*copyPages*PageSize)}
	c := capture{buf: make([]byte, copyPages*PageSize), put: w.put}
	if err := c.process(ctx, pid, base); err != nil {
		return Stats{}, err
	}
	c.stats.Kept = w.kept
	return c.stats, w.finish(c.stats.Total)
}

// diffWriter appends runs to a difference.
type diffWriter struct {
	dst    *os.File
	base   *os.File
	before []byte // the base's content in place of a run
	out    []byte // pages that belong at offset at of dst, not yet written
	at     int64
	runs   []run
	kept   int64
}

// put keeps of data, which belongs at offset off of guest memory, the pages
// that differ from the base.
func (w *diffWriter) put(off int64, data []byte, zero bool) error {
	before := w.before[:len(data)]
	if _, err := w.base.ReadAt(before, off); err != nil {
		return fmt.Errorf("read the memory base: %w", err)
	}
	same := func(at int64) bool { return bytes.Equal(data[at:at+PageSize], before[at:at+PageSize]) }
	size := int64(len(data))
	for start := int64(0); start < size; {
		if same(start) {
			start += PageSize
			continue
		}
		end := start + PageSize
		for end < size && !same(end) {
			end += PageSize
		}
		if err := w.keep(off+start, data[start:end], zero); err != nil {
			return err
		}
		start = end
	}
	return nil
}

// keep appends one run.
func (w *diffWriter) keep(off int64, data []byte, zero bool) error {
	r := run{offset: off, size: int64(len(data)), zero: zero}
	w.kept += r.size
	if !zero {
		if len(w.out)+len(data) > cap(w.out) {
			if err := w.flush(); err != nil {
				return err
			}
		}
		r.data, r.sum = w.at+int64(len(w.out)), checksum(data)
		w.out = append(w.out, data...)
	}
	w.runs = append(w.runs, r)
	return nil
}

func (w *diffWriter) flush() error {
	n, err := w.dst.WriteAt(w.out, w.at)
	w.at += int64(n)
	w.out = w.out[:0]
	return err
}

func (w *diffWriter) finish(total int64) error {
	if err := w.flush(); err != nil {
		return err
	}
	return writeTable(w.dst, table{memory: total, runs: w.runs}, w.at)
}

// ErrDamaged is the error of a difference whose content has changed since it was
// written, or that does not belong to the memory it is applied to.
var ErrDamaged = errors.New("the memory difference is damaged")

// Apply writes the difference in src into the private mapping of the file base
// in process pid, which must not have run yet. Each run is checked before it
// is written; on error, ErrDamaged among them, the process must be ended.
func Apply(ctx context.Context, src *os.File, pid int, base string) error {
	regions, err := mappings(pid, base)
	if err != nil {
		return err
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	return eachRun(ctx, src, func(off int64, data []byte) error {
		for _, r := range regions {
			if off >= r.offset && off+int64(len(data)) <= r.offset+r.size {
				_, err := mem.WriteAt(data, r.address+off-r.offset)
				return err
			}
		}
		return fmt.Errorf("%w: it holds pages that the VM does not have", ErrDamaged)
	})
}

// ApplyToFile writes the difference in src into dst, a copy of the base that it
// was made against, so that dst becomes a whole memory. dst is not synced.
func ApplyToFile(ctx context.Context, src, dst *os.File) error {
	return eachRun(ctx, src, func(off int64, data []byte) error {
		for at := int64(0); at < int64(len(data)); {
			zero, length := span(data[at:])
			if err := putWhole(dst, off+at, data[at:at+length], zero); err != nil {
				return err
			}
			at += length
		}
		return nil
	})
}

// eachRun calls use with every run of the difference in src, checked.
func eachRun(ctx context.Context, src *os.File, use func(off int64, data []byte) error) error {
	t, err := readTable(src)
	if err != nil {
		return err
	}
	buf := make([]byte, copyPages*PageSize)
	for _, r := range t.runs {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		data := buf[:r.size]
		if r.zero {
			clear(data)
		} else if _, err := io.ReadFull(io.NewSectionReader(src, r.data, r.size), data); err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		} else if checksum(data) != r.sum {
			return fmt.Errorf("%w: a checksum of its pages is wrong", ErrDamaged)
		}
		if err := use(r.offset, data); err != nil {
			return err
		}
	}
	return nil
}
