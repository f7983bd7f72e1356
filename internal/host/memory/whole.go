package memory

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
)

// Whole makes a whole memory of a VM in two passes, so that the VM has to be
// paused only for the pages that changed after the first pass.
//
// Begin copies the pages that the VM has changed while it runs. Finish, once it is
// paused, reads every changed page again, compares it with the copy and writes
// those that differ: reading and comparing cost a fraction of writing. The
// result is the memory as it was during Finish, not as Begin read it.
type Whole struct {
	pid  int
	base string
	dst  *os.File
	// begun has a bit for each page that Begin has written and Finish has not
	// met yet.
	begun []uint64
	// have holds the content of dst, for comparison.
	have []byte
}

// NewWhole returns a Whole of process pid, whose guest memory is a private
// mapping of the file base. dst must hold a copy of base and is not synced.
func NewWhole(pid int, base string, dst *os.File) *Whole {
	return &Whole{pid: pid, base: base, dst: dst, have: make([]byte, copyPages*PageSize)}
}

// Begin copies the changed pages of the running VM. It is not required.
func (w *Whole) Begin(ctx context.Context) error {
	c := capture{buf: make([]byte, copyPages*PageSize)}
	c.put = func(off int64, data []byte, zero bool) error {
		w.mark(off, int64(len(data)))
		return putWhole(w.dst, off, data, zero)
	}
	return c.process(ctx, w.pid, w.base)
}

// Finish makes dst the memory of the VM, which must be paused.
func (w *Whole) Finish(ctx context.Context) (Stats, error) {
	c := capture{buf: make([]byte, copyPages*PageSize)}
	c.put = w.update
	if err := c.process(ctx, w.pid, w.base); err != nil {
		return c.stats, err
	}
	return c.stats, w.restore()
}

func (w *Whole) mark(off, length int64) {
	for page := off / PageSize; page < (off+length)/PageSize; page++ {
		for int64(len(w.begun)) <= page/64 {
			w.begun = append(w.begun, 0)
		}
		w.begun[page/64] |= 1 << (page % 64)
	}
}

// update writes those runs of data's pages that dst does not have yet.
func (w *Whole) update(off int64, data []byte, zero bool) error {
	have := w.have[:len(data)]
	if _, err := w.dst.ReadAt(have, off); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for at := 0; at < len(data); {
		end := at
		for end < len(data) && !bytes.Equal(data[end:end+PageSize], have[end:end+PageSize]) {
			end += PageSize
		}
		if end > at {
			if err := putWhole(w.dst, off+int64(at), data[at:end], zero); err != nil {
				return err
			}
		}
		at = end + PageSize // the page at end is equal, or past the end
	}
	for page := off / PageSize; page < (off+int64(len(data)))/PageSize && page/64 < int64(len(w.begun)); page++ {
		w.begun[page/64] &^= 1 << (page % 64)
	}
	return nil
}

// restore gives dst back those pages of the base that were changed when Begin
// ran and are the base's again.
func (w *Whole) restore() error {
	var base *os.File
	for i, word := range w.begun {
		for bit := 0; word != 0 && bit < 64; bit++ {
			if word&(1<<bit) == 0 {
				continue
			}
			if base == nil {
				var err error
				if base, err = os.Open(w.base); err != nil {
					return err
				}
				defer base.Close()
			}
			off := (int64(i)*64 + int64(bit)) * PageSize
			page := w.have[:PageSize]
			if _, err := base.ReadAt(page, off); err != nil {
				return err
			}
			if err := putWhole(w.dst, off, page, isZero(page)); err != nil {
				return err
			}
		}
	}
	return nil
}
