package rest

import (
	"bytes"
	"unicode/utf8"
)

const (
	// firstChunk is the number of bytes of each stream that are kept in any case.
	// It is reserved before the command starts.
	firstChunk = 32 << 10
	// laterChunk is the unit in which a stream takes more of the budget.
	laterChunk = 128 << 10
)

// outputHead keeps the first bytes of a stream.
//
// Invariant: every chunk but the last is full; the first has a capacity of at
// most firstChunk, the others of laterChunk bytes that grow has granted.
type outputHead struct {
	chunks    [][]byte
	size      int
	truncated bool
}

// add keeps the part of p that limit leaves room for. grow grants memory from
// the second chunk on; once it refuses, the rest of the stream is dropped.
func (h *outputHead) add(p []byte, limit int, grow func(int64) bool) {
	if h.truncated {
		return
	}
	if room := limit - h.size; len(p) > room {
		p, h.truncated = p[:room], true
	}
	for len(p) > 0 {
		last, room := len(h.chunks)-1, 0
		if last >= 0 {
			room = chunkSize(last) - len(h.chunks[last])
		}
		if room == 0 {
			if last >= 0 && !grow(laterChunk) {
				h.truncated = true
				return
			}
			h.chunks = append(h.chunks, nil)
			if last++; last > 0 {
				h.chunks[last] = make([]byte, 0, laterChunk)
			}
			room = chunkSize(last)
		}
		n := min(room, len(p))
		h.chunks[last] = append(h.chunks[last], p[:n]...)
		h.size += n
		p = p[n:]
	}
}

// chunkSize is the size of chunk i when it is full.
func chunkSize(i int) int {
	if i == 0 {
		return firstChunk
	}
	return laterChunk
}

// trim drops a character that the end of a truncated stream cuts in two, so
// that text stays text.
func (h *outputHead) trim() {
	last := len(h.chunks) - 1
	if !h.truncated || last < 0 {
		return
	}
	tail := h.chunks[last]
	if before := utf8.UTFMax - len(tail); before > 0 && last > 0 {
		// The character may begin in the chunk before.
		prev := h.chunks[last-1]
		tail = append(bytes.Clone(prev[len(prev)-before:]), tail...)
	}
	for cut := len(partialRune(tail)); cut > 0; last-- {
		n := min(cut, len(h.chunks[last]))
		h.chunks[last] = h.chunks[last][:len(h.chunks[last])-n]
		h.size -= n
		cut -= n
	}
}

// text calls on with pieces of the stream that are cut between characters. It
// reports false when the stream is not UTF-8; on may be nil.
func (h *outputHead) text(on func([]byte) error) (valid bool, err error) {
	var carry []byte
	for _, chunk := range h.chunks {
		for len(carry) > 0 && len(chunk) > 0 && !utf8.FullRune(carry) {
			carry, chunk = append(carry, chunk[0]), chunk[1:]
		}
		if len(carry) > 0 && !utf8.FullRune(carry) {
			continue
		}
		rest := partialRune(chunk)
		for _, piece := range [][]byte{carry, chunk[:len(chunk)-len(rest)]} {
			if !utf8.Valid(piece) {
				return false, nil
			}
			if on != nil && len(piece) > 0 {
				if err := on(piece); err != nil {
					return true, err
				}
			}
		}
		carry = bytes.Clone(rest)
	}
	return len(carry) == 0, nil
}

// escapedSize is the size of the stream as a JSON string, without quotes.
func (h *outputHead) escapedSize() int {
	n := 0
	for _, chunk := range h.chunks {
		for _, b := range chunk {
			n += escapedByte(b)
		}
	}
	return n
}

// escapedByte is how many bytes encoding/json makes of b, which is part of
// valid UTF-8.
func escapedByte(b byte) int {
	switch {
	case b == '"' || b == '\\' || b >= '\b' && b <= '\r' && b != '\v':
		return 2
	case b < ' ':
		return 6
	default:
		return 1
	}
}
