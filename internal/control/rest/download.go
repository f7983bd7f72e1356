package rest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// copyBuffer is how much of a download is read, and written, at a time, in
// bytes.
const copyBuffer = 64 << 10

// downloadFile sends the file that the body names.
func (s *server) downloadFile(w http.ResponseWriter, r *http.Request) {
	var path, user string
	if err := readJSON(w, r, fields{"path": &path, "user": &user}); err != nil {
		s.fail(w, r, err)
		return
	}
	s.send(w, r, control.ReadFile{Path: path, User: user})
}

// getFile sends the file that the query names.
func (s *server) getFile(w http.ResponseWriter, r *http.Request) {
	q, err := readQuery(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	t, err := targetOf(q)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	read := control.ReadFile{Path: t.path, User: t.user}
	if r.Method == http.MethodGet {
		read.Range = rangeOf(r.Header)
	}
	s.send(w, r, read)
}

func (s *server) send(w http.ResponseWriter, r *http.Request, read control.ReadFile) {
	f, err := s.open(r, read)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer f.Body.Close()
	if f.Part != nil && f.Size == 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", f.Part.Total))
		s.fail(w, r, errRange)
		return
	}
	src := bufio.NewReaderSize(f.Body, copyBuffer)
	if r.Method != http.MethodHead {
		// A failure of the first read can still be reported; io.EOF means that
		// the file is empty.
		if _, err := src.Peek(1); err != nil && !errors.Is(err, io.EOF) {
			s.fail(w, r, err)
			return
		}
	}
	setFileHeaders(w.Header(), f)
	if f.Part != nil {
		w.WriteHeader(http.StatusPartialContent)
	} else {
		w.WriteHeader(http.StatusOK)
	}
	if r.Method == http.MethodHead {
		return
	}
	p := pace{http.NewResponseController(w), s.StallTimeout}
	defer p.end()
	if err := sendBody(pacedWriter{w, p}, src, f.Size); err != nil {
		recordError(r.Context(), err)
		// The status has been sent: only a cut connection can tell that the
		// file is incomplete.
		panic(http.ErrAbortHandler)
	}
}

func setFileHeaders(h http.Header, f *control.File) {
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", attachment(f.Name))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if f.Size >= 0 {
		h.Set("Content-Length", strconv.FormatInt(f.Size, 10))
		h.Set("Accept-Ranges", "bytes")
	}
	if f.Tag != "" {
		h.Set("ETag", `"`+f.Tag+`"`)
		h.Set("Last-Modified", f.ModifiedAt.UTC().Format(http.TimeFormat))
	}
	if f.Part != nil {
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", f.Part.Offset, f.Part.Offset+f.Size-1, f.Part.Total))
	}
}

func (s *server) open(r *http.Request, read control.ReadFile) (*control.File, error) {
	id, err := idOf(r)
	if err != nil {
		return nil, err
	}
	if err := sandbox.ValidateGuestPath(read.Path); err != nil {
		return nil, err
	}
	if err := validateUser(read.User); err != nil {
		return nil, err
	}
	f, err := s.Sandboxes.ReadFile(r.Context(), id, read)
	if err != nil || !strings.HasSuffix(read.Path, "/") {
		return f, err
	}
	// The guest opened a file, and a slash at the end names a directory.
	return nil, errors.Join(fault.New(fault.Invalid, "not_a_directory", "path ends with '/' but names a file: leave out the slash"), f.Body.Close())
}

// sendBody copies src to w: size bytes, or everything if size is negative.
func sendBody(w io.Writer, src io.Reader, size int64) error {
	if size >= 0 {
		src = io.LimitReader(src, size)
	}
	n, err := io.CopyBuffer(w, struct{ io.Reader }{src}, make([]byte, copyBuffer))
	if err == nil && n < size {
		return fault.Wrap(io.ErrUnexpectedEOF, fault.HostFailed, "download_incomplete", "the file ended too early")
	}
	return err
}

// attachment is the Content-Disposition of a download (RFC 6266): the name with
// forbidden characters replaced, and the exact name (RFC 8187). The name comes
// from a guest and may hold anything.
func attachment(name string) string {
	name = strings.ToValidUTF8(name, "_")
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		name = name[i+1:]
	}
	if name == "" || name == "." || name == ".." {
		name = "download"
	}
	plain := strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' || strings.ContainsRune(`"\/%;`, c) {
			return '_'
		}
		return c
	}, name)
	header := `attachment; filename="` + plain + `"`
	if plain != name {
		header += "; filename*=UTF-8''" + strings.ReplaceAll(url.QueryEscape(name), "+", "%20")
	}
	return header
}
