package guestwire

import (
	"encoding/binary"
	"io"
)

const (
	// smallBuffer holds most calls and answers whole.
	smallBuffer = 4 << 10
	// keptBuffer is the largest buffer that a Reader keeps between two frames.
	keptBuffer = 64 << 10
)

// Reader reads frames. It reads ahead, so that a small frame costs one read of its
// source.
//
// Invariant: buf[at:] has been read from src but not yet returned.
type Reader struct {
	src io.Reader
	buf []byte
	at  int
}

// NewReader returns a Reader of src.
func NewReader(src io.Reader) *Reader {
	return &Reader{src: src, buf: make([]byte, 0, smallBuffer)}
}

// Header reads the next frame's type and the length of its payload. At the end
// of src between two frames it returns io.EOF.
func (r *Reader) Header() (t Type, n int, err error) {
	b, err := r.Take(HeaderBytes)
	if err != nil {
		return 0, 0, err
	}
	size := binary.BigEndian.Uint32(b[1:])
	if size > 1<<30 {
		return 0, 0, ErrMalformed
	}
	return Type(b[0]), int(size), nil
}

// Frame reads a whole frame of at most limit bytes. The payload is valid until
// the next call of a method.
func (r *Reader) Frame(limit int) (t Type, payload []byte, err error) {
	t, n, err := r.Header()
	if err != nil {
		return 0, nil, err
	}
	if n > limit {
		return 0, nil, ErrMalformed
	}
	payload, err = r.Take(n)
	return t, payload, unexpected(err)
}

// Token reads the access token at the beginning of a call's payload of n
// bytes, and returns it with the number of bytes of the message that follows.
// The token is valid until the next call of a method.
func (r *Reader) Token(n int) (token []byte, left int, err error) {
	if n < tokenLenBytes {
		return nil, 0, ErrMalformed
	}
	b, err := r.Take(tokenLenBytes)
	if err != nil {
		return nil, 0, unexpected(err)
	}
	size := int(binary.BigEndian.Uint16(b))
	if left = n - tokenLenBytes - size; left < 0 || size > MaxToken {
		return nil, 0, ErrMalformed
	}
	token, err = r.Take(size)
	return token, left, unexpected(err)
}

// Take reads the next n bytes. They are valid until the next call of a method.
// It returns io.EOF only if no byte is left.
func (r *Reader) Take(n int) ([]byte, error) {
	for len(r.buf)-r.at < n {
		if err := r.more(n); err != nil {
			if err == io.EOF && len(r.buf) > r.at {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	b := r.buf[r.at : r.at+n : r.at+n]
	r.at += n
	return b, nil
}

// more reads once, after growing a full buffer to twice the unread bytes or to
// want, whichever is less.
func (r *Reader) more(want int) error {
	have := len(r.buf) - r.at
	if have == 0 && cap(r.buf) > keptBuffer {
		r.buf, r.at = make([]byte, 0, smallBuffer), 0
	}
	switch {
	case have == 0:
		r.buf, r.at = r.buf[:0], 0
	case len(r.buf) == cap(r.buf) && r.at > 0:
		r.buf, r.at = r.buf[:copy(r.buf, r.buf[r.at:])], 0
	}
	if len(r.buf) == cap(r.buf) {
		grown := make([]byte, have, max(min(2*have, want), smallBuffer))
		copy(grown, r.buf[r.at:])
		r.buf, r.at = grown, 0
	}
	n, err := r.src.Read(r.buf[len(r.buf):cap(r.buf)])
	r.buf = r.buf[:len(r.buf)+n]
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// Ahead reads once from the source, unless bytes have been read ahead already.
func (r *Reader) Ahead() error {
	if r.Pending() {
		return nil
	}
	return r.more(smallBuffer)
}

// Pending reports whether bytes have been read ahead and not yet returned.
func (r *Reader) Pending() bool { return len(r.buf) > r.at }

// Holds reports whether the next n bytes have been read ahead.
func (r *Reader) Holds(n int) bool { return len(r.buf)-r.at >= n }

// Buffered returns at most n bytes that have been read ahead, without reading. They
// are valid until the next call of a method.
func (r *Reader) Buffered(n int) []byte {
	b := r.buf[r.at:min(len(r.buf), r.at+n)]
	r.at += len(b)
	return b
}

// unexpected returns err, or io.ErrUnexpectedEOF for an end within a frame.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
