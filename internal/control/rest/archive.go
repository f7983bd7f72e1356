package rest

import (
	"bufio"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// maxArchive bounds an archive, in bytes without compression. The guest has the same
// bound for the files in it.
const maxArchive = 64 << 30

// getArchive sends a directory or a file as an archive.
func (s *server) getArchive(w http.ResponseWriter, r *http.Request) {
	id, read, err := readArchive(r)
	var f *control.File
	if err == nil {
		f, err = s.Sandboxes.ReadFile(r.Context(), id, read)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer f.Body.Close()
	src := bufio.NewReaderSize(atMost(f.Body, maxArchive), copyBuffer)
	if _, err := src.Peek(1); err != nil {
		s.fail(w, r, orIncomplete(err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", tarType)
	h.Set("Content-Disposition", attachment(path.Base(path.Clean(read.Path))+".tar"))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Vary", "Accept-Encoding")
	zip := acceptsGzip(r.Header)
	if zip {
		h.Set("Content-Encoding", "gzip")
	}
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	p := s.paceOf(w)
	defer p.end()
	if err := sendArchive(pacedWriter{w, p}, src, zip); err != nil {
		recordError(r.Context(), err)
		// The status has been sent: only a cut connection can tell that the archive is
		// incomplete.
		panic(http.ErrAbortHandler)
	}
}

// tarType is the media type of an archive.
const tarType = "application/x-tar"

// readArchive reads the parameters of a download.
func readArchive(r *http.Request) (sandbox.ID, control.ReadFile, error) {
	id, err := idOf(r)
	if err != nil {
		return "", control.ReadFile{}, err
	}
	q, err := readQuery(r)
	if err != nil {
		return "", control.ReadFile{}, err
	}
	at, err := one(q, "path")
	if err == nil {
		err = sandbox.ValidateGuestPath(at)
	}
	return id, control.ReadFile{Path: at, Archive: true}, err
}

// orIncomplete returns the failure of an archive without content: it has an end marker
// at least.
func orIncomplete(err error) error {
	if errors.Is(err, io.EOF) {
		return fault.Wrap(err, fault.HostFailed, "download_incomplete", "the archive ended too early")
	}
	return err
}

// bounded is a reader of at most left bytes. More are an error, not the end.
type bounded struct {
	io.Reader
	left, max int64
}

// atMost bounds an archive of a guest, which may be endless.
func atMost(r io.Reader, limit int64) io.Reader {
	return &bounded{Reader: r, left: limit, max: limit}
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, archiveTooLarge(nil, b.max)
	}
	return n, err
}

// sendArchive copies src to w, compressed if zip is set.
func sendArchive(w io.Writer, src io.Reader, zip bool) error {
	if !zip {
		return sendBody(w, src, -1)
	}
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if err := sendBody(z, src, -1); err != nil {
		return err
	}
	return z.Close()
}

// acceptsGzip reports whether a client names gzip in Accept-Encoding, other than with
// the weight 0.
func acceptsGzip(h http.Header) bool {
	for _, line := range h.Values("Accept-Encoding") {
		for _, item := range strings.Split(line, ",") {
			coding, params, _ := strings.Cut(item, ";")
			weight := 1.0
			if given, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q="); ok {
				weight, _ = strconv.ParseFloat(given, 64)
			}
			if strings.EqualFold(strings.TrimSpace(coding), "gzip") && weight > 0 {
				return true
			}
		}
	}
	return false
}

// putArchive unpacks the body.
func (s *server) putArchive(w http.ResponseWriter, r *http.Request) {
	p := s.paceOf(w)
	defer p.end()
	if err := s.unpack(w, r, pacedReader{r.Body, p}); err != nil {
		w.Header().Set("Connection", "close") // rather than read the rest of a refused upload
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *server) unpack(w http.ResponseWriter, r *http.Request, from io.Reader) error {
	id, err := idOf(r)
	if err != nil {
		return err
	}
	target, err := readTarget(r)
	if err != nil {
		return err
	}
	if r.ContentLength == 0 {
		return archiveBroken(io.ErrUnexpectedEOF) // an archive has an end marker at least
	}
	body, err := decoded(r.Header, http.MaxBytesReader(w, io.NopCloser(from), maxArchive+1))
	if err != nil {
		return err
	}
	target.Archive = true
	c := &content{src: body, left: maxArchive, max: maxArchive, broken: archiveBroken, tooLarge: archiveTooLarge}
	_, err = s.Sandboxes.WriteFile(r.Context(), id, target, c)
	if err != nil && c.err != nil && !errors.Is(c.err, io.EOF) {
		return c.err
	}
	return err
}

func archiveTooLarge(cause error, limit int64) error {
	return fault.Wrap(cause, fault.TooLarge, "archive_too_large", "the archive may have at most %d bytes", limit)
}

func archiveBroken(cause error) error {
	if errors.Is(cause, gzip.ErrHeader) || errors.Is(cause, gzip.ErrChecksum) {
		return fault.Wrap(cause, fault.Invalid, "invalid_archive", "the body is not compressed with gzip, as Content-Encoding says")
	}
	return fault.Wrap(cause, fault.Invalid, "archive_incomplete", "the archive ended too early; entries before the break were written")
}

// decoded returns the body without the compression that Content-Encoding names.
func decoded(h http.Header, body io.Reader) (io.Reader, error) {
	switch coding := strings.ToLower(strings.Join(h.Values("Content-Encoding"), ",")); coding {
	case "", "identity":
		return body, nil
	case "gzip", "x-gzip":
		return &lazyGzip{body: body}, nil
	default:
		return nil, withStatus(http.StatusUnsupportedMediaType,
			fault.New(fault.Invalid, "unsupported_content_encoding", "Content-Encoding must be gzip or absent, and is %s", quoted(coding)))
	}
}

// lazyGzip reads nothing of the body before its first read, because a client that
// expects 100-continue waits until the request is accepted.
type lazyGzip struct {
	body io.Reader
	zip  *gzip.Reader
}

// Read implements io.Reader.
func (l *lazyGzip) Read(p []byte) (int, error) {
	if l.zip == nil {
		zip, err := gzip.NewReader(l.body)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // an empty body is no empty archive
		}
		if err != nil {
			return 0, err
		}
		l.zip = zip
	}
	return l.zip.Read(p)
}
