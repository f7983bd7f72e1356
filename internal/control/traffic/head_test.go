package traffic

import (
	"io"
	"net"
	"sync"
	"testing"
)

// TestWholeHeadOfOtherBytes: bytes that net/http does not write as the framing of a body are an
// error, also if they come in two goroutines.
func TestWholeHeadOfOtherBytes(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer near.Close()
	go func() { _, _ = io.Copy(io.Discard, far) }()
	for _, framing := range []string{"-1\r\nx", "\r\n", "8000000000000000\r\n"} {
		c := &wholeHead{Conn: near}
		if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, framing); err == nil {
			t.Errorf("%q: no error", framing)
		}
	}
	c := &wholeHead{Conn: near}
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			for range 100 {
				_, _ = io.WriteString(c, "POST / HTTP/1.1\r\n")
			}
			_, _ = io.WriteString(c, "\r\n")
		})
	}
	both.Wait()
}
