package tunnel

import (
	"errors"
	"io"
	"sync"
)

// Buffers bounds the memory of connections that are carried. Each direction has a small
// buffer of its own. While its reads fill that, it borrows one of a few large ones, if one
// is free: large pieces cost fewer system calls. It is safe for concurrent use.
type Buffers struct {
	small, large int           // sizes in bytes
	borrowed     chan struct{} // has a value for each borrowed buffer
	pool         sync.Pool     // of *[]byte
}

// NewBuffers returns buffers with the sizes small and large, in bytes, of which at most
// count large ones are in use at once.
func NewBuffers(small, large, count int) *Buffers {
	return &Buffers{small: small, large: large, borrowed: make(chan struct{}, count)}
}

// maxLarge is the number of large buffers of Carry, and of Copy: 16 MiB each.
const maxLarge = 256

// usual are those of Carry.
var usual = NewBuffers(bufferBytes, maxFrame, maxLarge)

// buffer is the buffer of one direction. One goroutine uses it.
type buffer struct {
	of    *Buffers
	small []byte
	large *[]byte // nil while none is borrowed
}

func (b *Buffers) new() *buffer { return &buffer{of: b, small: make([]byte, b.small)} }

// bytes returns the memory for the next read.
func (b *buffer) bytes() []byte {
	if b.large != nil {
		return *b.large
	}
	return b.small
}

// adapt borrows a large buffer after a read of n bytes that has filled the small one, and
// returns it after one that the small one could have taken.
func (b *buffer) adapt(n int) {
	switch {
	case b.large != nil && n <= len(b.small):
		b.release()
	case b.large == nil && n == len(b.small):
		select {
		case b.of.borrowed <- struct{}{}:
		default:
			return
		}
		if kept, ok := b.of.pool.Get().(*[]byte); ok {
			b.large = kept
			return
		}
		made := make([]byte, b.of.large)
		b.large = &made
	}
}

// release returns a borrowed buffer.
func (b *buffer) release() {
	if b.large == nil {
		return
	}
	b.of.pool.Put(b.large)
	b.large = nil
	<-b.of.borrowed
}

// pieces are the buffers of Copy. Most of what it copies is small. A piece with the lines
// that make it a chunk of HTTP fits into one frame.
var pieces = NewBuffers(8<<10, maxFrame-32, maxLarge)

// Copy copies from to its end, as io.Copy does, but in pieces almost as large as a frame
// where that much has arrived: each piece costs every hop to the guest some system calls.
func Copy(to io.Writer, from io.Reader) (written int64, err error) {
	buf := pieces.new()
	defer buf.release()
	for {
		piece := buf.bytes()
		n, err := from.Read(piece)
		if n > 0 {
			wrote, err := to.Write(piece[:n])
			written += int64(wrote)
			if err != nil {
				return written, err
			}
			buf.adapt(n)
		}
		switch {
		case errors.Is(err, io.EOF):
			return written, nil
		case err != nil:
			return written, err
		}
	}
}
