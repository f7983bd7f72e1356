package filesystem

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// random returns n bytes that differ for each n.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b) // never fails
	return b
}

// passesOver reports whether writes to file pass over the page cache.
func passesOver(t *testing.T, file *os.File) bool {
	t.Helper()
	flags, err := unix.FcntlInt(file.Fd(), unix.F_GETFL, 0)
	if err != nil {
		t.Fatal(err)
	}
	return flags&unix.O_DIRECT != 0
}

// diskFile creates a file on a file system that takes O_DIRECT.
func diskFile(t *testing.T) *os.File {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	if err := setDirect(file, true); err != nil {
		t.Skipf("the file system of %s does not take O_DIRECT: %v", file.Name(), err)
	}
	if err := setDirect(file, false); err != nil {
		t.Fatal(err)
	}
	return file
}

// pieces returns content in reads of at most size bytes.
type pieces struct {
	content []byte
	size    int
}

func (p *pieces) Read(into []byte) (int, error) {
	if len(p.content) == 0 {
		return 0, io.EOF
	}
	n := copy(into, p.content[:min(len(p.content), p.size)])
	p.content = p.content[n:]
	return n, nil
}

// TestOutputKeepsContent: files of all sizes around the bounds have the content that was
// written, by each way of writing, and no buffer stays in use.
func TestOutputKeepsContent(t *testing.T) {
	ways := map[string]func(*output, []byte) (int64, error){
		"one write": func(o *output, b []byte) (int64, error) { n, err := o.Write(b); return int64(n), err },
		"reads":     func(o *output, b []byte) (int64, error) { return o.copyFrom(&pieces{b, 54321}) },
		"connection": func(o *output, b []byte) (read int64, err error) {
			// In frames, as uploads of the host arrive.
			conn := connection(t, b)
			for len(b) > 0 && err == nil {
				frame := min(len(b), 300_000)
				var n int64
				n, err = io.Copy(o, &io.LimitedReader{R: conn, N: int64(frame)})
				read, b = read+n, b[frame:]
			}
			return read, err
		},
		"mixed": func(o *output, b []byte) (int64, error) {
			half := len(b) / 2
			n, err := o.Write(b[:half])
			if err != nil {
				return int64(n), err
			}
			m, err := o.ReadFrom(bytes.NewReader(b[half:]))
			return int64(n) + m, err
		},
	}
	for name, write := range ways {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{
				0, 1, directFrom - 1, directFrom, directFrom + 1, directFrom + directAlign, directFrom + directBuffer - 1,
				directFrom + directBuffer, directFrom + directBuffer + 1, directFrom + 3*directBuffer + directAlign + 7,
			} {
				file, content := diskFile(t), random(size)
				o := &output{file: file, slots: make(chan struct{}, 1)}
				n, err := write(o, content)
				if err != nil || n != int64(size) {
					t.Fatalf("%d bytes: wrote %d, %v", size, n, err)
				}
				if got, want := passesOver(t, file), size > directFrom; got != want && size != directFrom {
					t.Errorf("%d bytes: passes over the page cache: %v, want %v", size, got, want)
				}
				if err := o.finish(); err != nil {
					t.Fatalf("%d bytes: finish: %v", size, err)
				}
				if len(o.slots) != 0 || passesOver(t, file) {
					t.Errorf("%d bytes: after the end %d buffers are in use, O_DIRECT: %v", size, len(o.slots), passesOver(t, file))
				}
				have, err := os.ReadFile(file.Name())
				if err != nil || !bytes.Equal(have, content) {
					t.Errorf("%d bytes: the file of %d bytes differs from the content: %v", size, len(have), err)
				}
			}
		})
	}
}

// connection returns a TCP connection from which content can be read.
func connection(t *testing.T, content []byte) net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			_, _ = conn.Write(content)
			_ = conn.Close()
		}
	}()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// TestOutputWithoutBuffer: if all buffers are in use, a large file is written through the
// page cache, and the buffers of the others stay theirs.
func TestOutputWithoutBuffer(t *testing.T) {
	file, content := diskFile(t), random(directFrom+2*directBuffer)
	slots := make(chan struct{}, 1)
	slots <- struct{}{}
	o := &output{file: file, slots: slots}
	if n, err := o.copyFrom(&pieces{content, 100_000}); err != nil || n != int64(len(content)) {
		t.Fatalf("wrote %d of %d bytes: %v", n, len(content), err)
	}
	if passesOver(t, file) {
		t.Error("a file without a buffer passes over the page cache")
	}
	if err := o.finish(); err != nil || len(slots) != 1 {
		t.Errorf("finish: %v; %d buffers in use, want 1", err, len(slots))
	}
}

// TestOutputAfterAnError frees the buffer of a file whose reader fails.
func TestOutputAfterAnError(t *testing.T) {
	o := &output{file: diskFile(t), slots: make(chan struct{}, 1)}
	failed := io.MultiReader(bytes.NewReader(random(directFrom+12345)), failingReader{})
	if _, err := o.copyFrom(failed); err != io.ErrClosedPipe {
		t.Errorf("copyFrom: %v, want the reader's error", err)
	}
	if err := o.finish(); err != nil || len(o.slots) != 0 || o.buffer != nil {
		t.Errorf("finish: %v; %d buffers in use, want none", err, len(o.slots))
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestOutputOfRefusedWrites: a write that the file system refuses for its alignment is
// repeated through the page cache.
func TestOutputOfRefusedWrites(t *testing.T) {
	file := diskFile(t)
	if err := setDirect(file, true); err != nil {
		t.Fatal(err)
	}
	content := random(1001) // no whole block
	if err := (&output{file: file}).writeDirect(content); err != nil {
		t.Fatal(err)
	}
	if have, err := os.ReadFile(file.Name()); err != nil || !bytes.Equal(have, content) {
		t.Errorf("the file has %d bytes, %v; want the content", len(have), err)
	}
}
