package tunnel

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"
	"testing/iotest"
)

// TestReadFillsItsPiece: the bytes that came with the header of a frame make no piece of
// their own.
func TestReadFillsItsPiece(t *testing.T) {
	const size = 20_000
	frame := append(binary.BigEndian.AppendUint32(nil, size), make([]byte, size)...)
	c := newConn(nil, bufio.NewReaderSize(bytes.NewReader(frame), 4096))
	if n, err := c.Read(make([]byte, maxFrame)); n != size || err != nil {
		t.Errorf("read %d bytes, %v; want the %d of the frame", n, err, size)
	}
	// What has arrived is kept if the rest does not come.
	c = newConn(nil, bufio.NewReaderSize(io.MultiReader(bytes.NewReader(frame[:4096]), iotest.ErrReader(os.ErrDeadlineExceeded)), 4096))
	if n, err := c.Read(make([]byte, maxFrame)); n != 4096-headerBytes || err != nil {
		t.Errorf("read %d bytes, %v; want the %d that have come", n, err, 4096-headerBytes)
	}
	if n, err := c.Read(make([]byte, maxFrame)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes, %v; want the error", n, err)
	}
}
