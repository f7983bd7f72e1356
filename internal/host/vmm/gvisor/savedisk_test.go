package gvisor

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// archiveOf returns an archive of one file, whose header says size, with that content.
func archiveOf(t *testing.T, size int64, content []byte, end bool) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "./file", Size: size, Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if end {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// TestCopyDisk copies archives from sentries, of which some want to fill the disk of the
// host.
func TestCopyDisk(t *testing.T) {
	const limit = 64 << 10
	fits := archiveOf(t, 1000, make([]byte, 1000), true)
	for name, c := range map[string]struct {
		archive   io.Reader
		tooLarge  bool
		fails     bool
		wantBytes int
	}{
		"an archive that fits":          {archive: bytes.NewReader(fits), wantBytes: len(fits)},
		"a file with a large size":      {archive: bytes.NewReader(archiveOf(t, 1<<50, nil, false)), tooLarge: true},
		"a file that never ends":        {archive: io.MultiReader(bytes.NewReader(archiveOf(t, limit, nil, false)), zeros{}), tooLarge: true},
		"zeros after the archive":       {archive: io.MultiReader(bytes.NewReader(fits), zeros{}), tooLarge: true},
		"many files":                    {archive: &again{text: archiveOf(t, 512, make([]byte, 512), false)}, tooLarge: true},
		"an archive that is cut off":    {archive: bytes.NewReader(fits[:700]), fails: true},
		"an answer that is no archive":  {archive: bytes.NewReader(bytes.Repeat([]byte("x"), 4096)), fails: true},
		"an archive as long as allowed": {archive: bytes.NewReader(archiveOf(t, limit-1536, make([]byte, limit-1536), true)), wantBytes: limit},
		"an archive one block too long": {archive: bytes.NewReader(archiveOf(t, limit-1024, make([]byte, limit-1024), true)), tooLarge: true},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			err := copyDisk(&out, c.archive, limit)
			if errors.Is(err, vmm.ErrDiskTooLarge) != c.tooLarge || (err != nil) != (c.tooLarge || c.fails) {
				t.Errorf("got %v, want too large %t, any error %t", err, c.tooLarge, c.fails)
			}
			if out.Len() > limit || err == nil && out.Len() != c.wantBytes {
				t.Errorf("%d bytes were written, want %d and at most %d", out.Len(), c.wantBytes, limit)
			}
		})
	}
}

// zeros is a reader without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// again reads text over and over.
type again struct {
	text []byte
	at   int
}

func (a *again) Read(p []byte) (int, error) {
	n := copy(p, a.text[a.at:])
	a.at = (a.at + n) % len(a.text)
	return n, nil
}

// TestSaveDiskIsBounded: a sentry that announces a file with a large hole, and keeps its
// end of the pipe open without an answer, is not waited for, and the host has no large file.
func TestSaveDiskIsBounded(t *testing.T) {
	dir := t.TempDir()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: controlPath(dir)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	header, refused := archiveOf(t, 1<<40, nil, false), make(chan error, 1)
	go func() {
		conn, err := l.AcceptUnix()
		if err != nil {
			refused <- err
			return
		}
		defer conn.Close()
		files := receiveFiles(conn)
		if len(files) != 1 {
			refused <- errors.New("no file arrived")
			return
		}
		defer files[0].Close()
		_, err = files[0].Write(header)
		for err == nil {
			_, err = files[0].Write(make([]byte, 1<<20))
		}
		refused <- err
	}()
	v := &vm{dir: dir}
	v.about.Seal.MemoryMB, v.about.Seal.DiskMB = 128, 256
	path := filepath.Join(dir, "content")
	if err := v.SaveDisk(t.Context(), path); !errors.Is(err, vmm.ErrDiskTooLarge) {
		t.Errorf("a file of 1 TiB: %v, want too large", err)
	}
	if err := <-refused; !errors.Is(err, unix.EPIPE) {
		t.Errorf("the sentry's writes end with %v, want a broken pipe", err)
	}
	if st, err := os.Stat(path); err != nil || st.Size() > v.BootableBytes() {
		t.Errorf("the file on the host: %v, %v; want at most %d bytes", st.Size(), err, v.BootableBytes())
	}
}
