package hostclient_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/iotest"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
)

// zeros is an endless file.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// drain reads an upload to its end as an agent does.
func drain(s *connect.ClientStream[hostv1.WriteFileRequest]) (n int64, largest int, err error) {
	for s.Receive() {
		chunk := s.Msg().GetChunk()
		n += int64(len(chunk))
		largest = max(largest, len(chunk))
	}
	return n, largest, s.Err()
}

// TestWriteFile does not run beside other tests: it counts memory, with little
// garbage in it.
func TestWriteFile(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	a := &agent{}
	c, _ := connectTo(t, a)
	for _, size := range []int64{0, 1, 256 << 10, 256<<10 + 1, 64 << 20} {
		a.write = func(s *connect.ClientStream[hostv1.WriteFileRequest]) (int64, error) {
			s.Receive()
			if o := s.Msg().GetOpen(); o.GetRef().GetGeneration() != 2 || o.GetPath() != "/f" || o.GetUser() != "u" || o.GetMode() != 0o600 {
				t.Errorf("open: %v", o)
			}
			n, largest, err := drain(s)
			if largest > 256<<10 {
				t.Errorf("a chunk of %d bytes", largest)
			}
			return n, err
		}
		mode := uint32(0o600)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		n, err := c.WriteFile(t.Context(), ref, control.WriteFile{Path: "/f", User: "u", Mode: &mode}, io.LimitReader(zeros{}, size))
		runtime.ReadMemStats(&after)
		if err != nil || n != size {
			t.Errorf("%d bytes: %d, %v", size, n, err)
		}
		if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 32<<20 {
			t.Errorf("%d bytes: the heap grew by %d", size, grown)
		}
	}
}

func TestWriteFileFails(t *testing.T) {
	t.Parallel()
	a := &agent{}
	c, _ := connectTo(t, a)
	// The agent refuses in the middle of a large upload: its reason arrives.
	a.write = func(s *connect.ClientStream[hostv1.WriteFileRequest]) (int64, error) {
		s.Receive()
		return 0, faultrpc.ToConnect(fault.New(fault.Invalid, "is_directory", "it is a directory"))
	}
	_, err := c.WriteFile(t.Context(), ref, control.WriteFile{Path: "/f"}, io.LimitReader(zeros{}, 64<<20))
	if !fault.Is(err, fault.Invalid) || fault.ReasonOf(err) != "is_directory" {
		t.Errorf("refused: %v", err)
	}
	// The upload breaks: the agent must not take it for the whole file.
	for _, broke := range []error{io.ErrUnexpectedEOF, fault.New(fault.TooLarge, "too_large", "too large")} {
		ended := make(chan error, 1)
		a.write = func(s *connect.ClientStream[hostv1.WriteFileRequest]) (int64, error) {
			_, _, err := drain(s)
			ended <- err
			return 0, err
		}
		content := io.MultiReader(bytes.NewReader(make([]byte, 300<<10)), iotest.ErrReader(broke))
		if _, err := c.WriteFile(t.Context(), ref, control.WriteFile{Path: "/f"}, content); !errors.Is(err, broke) {
			t.Errorf("broken upload: %v, want %v", err, broke)
		}
		if err := <-ended; err == nil {
			t.Errorf("%v: the agent saw an orderly end", broke)
		}
	}
}

func chunk(p []byte) *hostv1.ReadFileResponse {
	return &hostv1.ReadFileResponse{Message: &hostv1.ReadFileResponse_Chunk{Chunk: p}}
}

func fileInfo(size int64) *hostv1.ReadFileResponse {
	return &hostv1.ReadFileResponse{Message: &hostv1.ReadFileResponse_Info{Info: &hostv1.FileInfo{Name: "f", Size: size}}}
}

func TestReadFile(t *testing.T) {
	t.Parallel()
	a := &agent{}
	c, _ := connectTo(t, a)
	const size = 1<<20 + 1
	a.read = func(_ context.Context, r *hostv1.ReadFileRequest, send func(*hostv1.ReadFileResponse) error) error {
		if r.GetPath() != "/f" || r.GetUser() != "u" || r.GetRef().GetId() != "abc" {
			t.Errorf("%v", r)
		}
		err := send(fileInfo(size))
		for left := size; left > 0 && err == nil; left -= 64 << 10 {
			err = send(chunk(make([]byte, min(left, 64<<10))))
		}
		return err
	}
	f, err := c.ReadFile(t.Context(), ref, control.ReadFile{Path: "/f", User: "u"})
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, f.Body)
	if err != nil || n != size || f.Size != size || f.Name != "f" {
		t.Errorf("%d bytes of %+v, %v", n, f, err)
	}
	if err := f.Body.Close(); err != nil {
		t.Error(err)
	}
}

func TestReadFileFails(t *testing.T) {
	t.Parallel()
	a := &agent{}
	c, _ := connectTo(t, a)
	missing := faultrpc.ToConnect(fault.New(fault.NotFound, "file_not_found", "no such file"))
	a.read = func(context.Context, *hostv1.ReadFileRequest, func(*hostv1.ReadFileResponse) error) error {
		return missing
	}
	if _, err := c.ReadFile(t.Context(), ref, control.ReadFile{Path: "/f"}); fault.ReasonOf(err) != "file_not_found" {
		t.Errorf("missing: %v", err)
	}
	a.read = func(_ context.Context, _ *hostv1.ReadFileRequest, send func(*hostv1.ReadFileResponse) error) error {
		return send(chunk([]byte("x")))
	}
	if _, err := c.ReadFile(t.Context(), ref, control.ReadFile{Path: "/f"}); fault.ReasonOf(err) != "host_protocol" {
		t.Errorf("no info: %v", err)
	}
	// It breaks in the middle: that is no end of file.
	a.read = func(_ context.Context, _ *hostv1.ReadFileRequest, send func(*hostv1.ReadFileResponse) error) error {
		return errors.Join(send(fileInfo(10)), send(chunk([]byte("half"))), missing)
	}
	f, err := c.ReadFile(t.Context(), ref, control.ReadFile{Path: "/f"})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(f.Body); err == nil || string(b) != "half" {
		t.Errorf("cut: %q, %v", b, err)
	}
	// The reader loses interest: the agent is told.
	gone := make(chan struct{})
	a.read = func(ctx context.Context, _ *hostv1.ReadFileRequest, send func(*hostv1.ReadFileResponse) error) error {
		err := send(fileInfo(-1))
		<-ctx.Done()
		close(gone)
		return err
	}
	if f, err = c.ReadFile(t.Context(), ref, control.ReadFile{Path: "/f"}); err != nil {
		t.Fatal(err)
	}
	if err := f.Body.Close(); err != nil {
		t.Error(err)
	}
	<-gone
}
