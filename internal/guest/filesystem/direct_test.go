package filesystem

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
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

// diskFile creates a file on a file system that takes O_DIRECT. Without one it skips the test, or
// fails it where WRENN_REQUIRE has root: there the machine is to run all tests.
func diskFile(t *testing.T) *os.File {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	if err := setDirect(file, true); err != nil {
		lacks := fmt.Sprintf("the file system of %s does not take O_DIRECT: %v", file.Name(), err)
		if slices.Contains(strings.Split(os.Getenv("WRENN_REQUIRE"), ","), "root") {
			t.Fatal("WRENN_REQUIRE demands O_DIRECT, but " + lacks)
		}
		t.Skip(lacks)
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
		for _, bypass := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, bypass %v", name, bypass), func(t *testing.T) { checkOutput(t, bypass, write) })
		}
	}
}

// checkOutput writes files of all sizes around the bounds.
func checkOutput(t *testing.T, bypass bool, write func(*output, []byte) (int64, error)) {
	t.Helper()
	for _, size := range []int{
		0, 1, directFrom - 1, directFrom, directFrom + 1, directFrom + directAlign, directFrom + directBuffer - 1,
		directFrom + directBuffer, directFrom + directBuffer + 1, directFrom + 3*directBuffer + directAlign + 7,
	} {
		file, content := diskFile(t), random(size)
		o := &output{file: file, large: large{slots: make(chan struct{}, 1), bypass: bypass}}
		n, err := write(o, content)
		if err != nil || n != int64(size) {
			t.Fatalf("%d bytes: wrote %d, %v", size, n, err)
		}
		if got, want := passesOver(t, file), bypass && size > directFrom; got != want && size != directFrom {
			t.Errorf("%d bytes: passes over the page cache: %v, want %v", size, got, want)
		}
		if got, want := o.buffer != nil, size > directFrom; got != want && size != directFrom {
			t.Errorf("%d bytes: collects large pieces: %v, want %v", size, got, want)
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
	o := &output{file: file, large: large{slots: slots, bypass: true}}
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
	o := &output{file: diskFile(t), large: large{slots: make(chan struct{}, 1), bypass: true}}
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
	file, content := diskFile(t), random(1001) // no whole block of any disk
	if err := setDirect(file, true); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write(content); !errors.Is(err, unix.EINVAL) {
		t.Skipf("the file system does not refuse writes of %d bytes: %v", len(content), err)
	}
	if err := (&output{file: file, large: large{bypass: true}}).writeDirect(content); err != nil {
		t.Fatal(err)
	}
	if passesOver(t, file) {
		t.Error("writes after the refused one pass over the page cache")
	}
	if have, err := os.ReadFile(file.Name()); err != nil || !bytes.Equal(have, content) {
		t.Errorf("the file has %d bytes, %v; want the content", len(have), err)
	}
}

// refusing takes the next of its answers at each write, and keeps what it has taken.
type refusing struct {
	answers []answer
	content []byte
}

// answer is the outcome of a write of which the first n bytes are taken, all if err is nil.
type answer struct {
	n   int
	err error
}

func (r *refusing) Write(p []byte) (int, error) {
	next := r.answers[0]
	r.answers = r.answers[1:]
	if next.err == nil {
		next.n = len(p)
	}
	r.content = append(r.content, p[:next.n]...)
	return next.n, next.err
}

// TestWriteBlocks: only the rest of a write that was refused for its alignment is repeated, once.
func TestWriteBlocks(t *testing.T) {
	all := random(4 * directAlign)
	whole := answer{}
	for name, test := range map[string]struct {
		answers  []answer
		cacheErr error
		written  int
		useCache int // calls
		err      error
	}{
		"accepted":              {[]answer{whole}, nil, len(all), 0, nil},
		"refused":               {[]answer{{0, unix.EINVAL}, whole}, nil, len(all), 1, nil},
		"refused after a block": {[]answer{{directAlign, unix.EINVAL}, whole}, nil, len(all), 1, nil},
		"refused twice":         {[]answer{{directAlign, unix.EINVAL}, {1, unix.EINVAL}}, nil, directAlign + 1, 1, unix.EINVAL},
		"full":                  {[]answer{{directAlign, unix.ENOSPC}}, nil, directAlign, 0, unix.ENOSPC},
		"refused, then full":    {[]answer{{directAlign, unix.EINVAL}, {7, unix.ENOSPC}}, nil, directAlign + 7, 1, unix.ENOSPC},
		"refused with no cache": {[]answer{{directAlign, unix.EINVAL}}, unix.EPERM, directAlign, 1, unix.EPERM},
	} {
		t.Run(name, func(t *testing.T) {
			w, calls := &refusing{answers: test.answers}, 0
			err := writeBlocks(w, all, func() error { calls++; return test.cacheErr })
			if !errors.Is(err, test.err) || err == nil != (test.err == nil) {
				t.Errorf("error %v, want %v", err, test.err)
			}
			if !bytes.Equal(w.content, all[:test.written]) || calls != test.useCache || len(w.answers) != 0 {
				t.Errorf("%d bytes written, %d calls of useCache, %d writes missing; want the first %d bytes and %d calls",
					len(w.content), calls, len(w.answers), test.written, test.useCache)
			}
		})
	}
}

// TestOutputWithoutRoom: a file that reaches the largest size of its file system while it passes
// over the page cache gets the kernel's error, and its buffer is freed.
func TestOutputWithoutRoom(t *testing.T) {
	file := diskFile(t)
	// A file position is at most the largest size.
	largest := int64(sort.Search(1<<62, func(at int) bool { _, err := file.Seek(int64(at)+1, io.SeekStart); return err != nil }))
	if largest == 1<<62 || largest%directAlign != 0 {
		t.Skipf("the largest size of a file is %d, which no aligned write reaches", largest)
	}
	if _, err := file.Seek(largest-directFrom-directBuffer, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	o := &output{file: file, large: large{slots: make(chan struct{}, 1), bypass: true}}
	n, err := o.copyFrom(&pieces{random(directFrom + 3*directBuffer), 100_000})
	if !errors.Is(err, unix.EFBIG) || n != directFrom+2*directBuffer {
		t.Errorf("copyFrom: %v after %d bytes, want %v after %d", err, n, unix.EFBIG, directFrom+2*directBuffer)
	}
	if err := o.finish(); err != nil || len(o.slots) != 0 || passesOver(t, file) {
		t.Errorf("finish: %v; %d buffers in use, O_DIRECT: %v", err, len(o.slots), passesOver(t, file))
	}
	if fi, err := file.Stat(); err != nil || fi.Size() != largest {
		t.Errorf("the file has %d bytes, %v; want %d", fi.Size(), err, largest)
	}
}
