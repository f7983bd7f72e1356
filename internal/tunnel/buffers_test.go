package tunnel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/iotest"
)

// TestBuffers: a direction borrows a large buffer while its reads are large, and no more
// are borrowed than there are.
func TestBuffers(t *testing.T) {
	all := NewBuffers(4, 64, 1)
	first, second := all.new(), all.new()
	for _, step := range []struct {
		name string
		of   *buffer
		read int
		want int
	}{
		{"a short read", first, 3, 4},
		{"a full read", first, 4, 64},
		{"a full read while none is free", second, 4, 4},
		{"a large read", first, 60, 64},
		{"a short read of a large buffer", first, 2, 4},
		{"a full read after one was returned", second, 4, 64},
	} {
		step.of.adapt(step.read)
		if got := len(step.of.bytes()); got != step.want {
			t.Fatalf("%s: the next buffer has %d bytes, want %d", step.name, got, step.want)
		}
	}
	second.release()
	second.release()
	if first.adapt(4); len(first.bytes()) != 64 {
		t.Error("a returned buffer cannot be borrowed again")
	}
}

// TestCarryBuffered: bytes pass whole and in order through changing buffers, which are all
// returned at the end.
func TestCarryBuffered(t *testing.T) {
	all := NewBuffers(1<<10, 16<<10, 1)
	a, fromA := tcpPipe(t)
	b, fromB := tcpPipe(t)
	carried := make(chan error, 1)
	go func() { carried <- CarryBuffered(context.Background(), fromA, fromB, func() {}, all) }()
	sent := make([]byte, 3<<20)
	for i := range sent {
		sent[i] = byte(i * 7919 >> 8)
	}
	go func() {
		_, _ = a.Write(sent)
		_ = a.CloseWrite()
	}()
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("got %d bytes, %v; want the %d that were sent", len(got), err, len(sent))
	}
	_ = b.CloseWrite()
	if _, err := io.ReadAll(a); err != nil {
		t.Error(err)
	}
	if err := <-carried; err != nil || len(all.borrowed) != 0 {
		t.Errorf("got %v with %d borrowed buffers, want a clean end with none", err, len(all.borrowed))
	}
}

// tcpPipe returns both ends of a TCP connection.
func tcpPipe(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialed, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = dialed.Close(), accepted.Close() })
	return dialed.(*net.TCPConn), accepted.(*net.TCPConn)
}

// TestCopy: bytes pass whole and in order, an error of either side ends the copy, and
// borrowed buffers are returned.
func TestCopy(t *testing.T) {
	sent := make([]byte, 3<<20)
	for i := range sent {
		sent[i] = byte(i * 7919 >> 8)
	}
	var got bytes.Buffer
	if n, err := Copy(&got, bytes.NewReader(sent)); n != int64(len(sent)) || err != nil || !bytes.Equal(got.Bytes(), sent) {
		t.Errorf("copied %d bytes, %v; want the %d that were sent", n, err, len(sent))
	}
	broken := io.MultiReader(bytes.NewReader(sent), iotest.ErrReader(io.ErrUnexpectedEOF))
	if n, err := Copy(io.Discard, broken); n != int64(len(sent)) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("copied %d bytes, %v; want %d and the reader's error", n, err, len(sent))
	}
	if n, err := Copy(failing{}, bytes.NewReader(sent)); n != 0 || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("copied %d bytes, %v; want none and the writer's error", n, err)
	}
	if len(pieces.borrowed) != 0 {
		t.Errorf("%d buffers were not returned", len(pieces.borrowed))
	}
}

// failing is a writer that takes nothing.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
