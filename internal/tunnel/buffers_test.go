package tunnel

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
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
