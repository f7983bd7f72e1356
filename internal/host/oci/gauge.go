package oci

import "io"

// entryBytes is the space on disk that an entry without content may take: a directory
// has a block of its own.
const entryBytes = 4096

// gauge asks for room on the disk before the first byte and then after each further number
// of bytes. One goroutine uses it.
type gauge struct {
	room  func() error
	every int64 // bytes between two questions
	left  int64 // bytes until the next question
	err   error // of room
}

// spend is called before n bytes are written. Its error is that of room.
func (g *gauge) spend(n int64) error {
	if g.left -= n; g.left >= 0 {
		return nil
	}
	g.left = g.every
	g.err = g.room()
	return g.err
}

// roomy is a reader whose bytes are written to the disk.
type roomy struct {
	r     io.Reader
	space *gauge
}

// Read implements io.Reader.
func (r roomy) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if full := r.space.spend(int64(n)); full != nil {
		return 0, full
	}
	return n, err
}
