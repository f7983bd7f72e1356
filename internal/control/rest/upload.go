package rest

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// formOverhead is the size, in bytes, that a form may have beside the file.
const formOverhead = 1 << 20

// uploadFile takes a file in a form.
func (s *server) uploadFile(w http.ResponseWriter, r *http.Request) {
	s.receive(w, r, formOverhead, func(body io.Reader) (control.WriteFile, *content, error) {
		q, err := readQuery(r)
		if err != nil {
			return control.WriteFile{}, nil, err
		}
		f, err := openForm(r.Header, body, q)
		if err != nil {
			return control.WriteFile{}, nil, err
		}
		return f.target, &content{src: f.file, end: f.end}, nil
	})
}

// putFile takes a file as the body itself.
func (s *server) putFile(w http.ResponseWriter, r *http.Request) {
	s.receive(w, r, 0, func(body io.Reader) (control.WriteFile, *content, error) {
		target, err := readTarget(r)
		return target, &content{src: body}, err
	})
}

// receive runs an upload. open finds the file in the body, which may have extra
// bytes besides the file. An error of the content has precedence over the error
// that it caused in the host.
func (s *server) receive(w http.ResponseWriter, r *http.Request, extra int64,
	open func(body io.Reader) (control.WriteFile, *content, error),
) {
	p := pace{http.NewResponseController(w), s.StallTimeout}
	defer p.end()
	if err := s.upload(w, r, pacedReader{r.Body, p}, extra, open); err != nil {
		w.Header().Set("Connection", "close") // rather than read the rest of a refused upload
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *server) upload(w http.ResponseWriter, r *http.Request, from io.Reader, extra int64,
	open func(body io.Reader) (control.WriteFile, *content, error),
) error {
	id, err := idOf(r)
	if err != nil {
		return err
	}
	if err := checkEncoding(r.Header); err != nil {
		return err
	}
	limit, err := s.maxUpload(r)
	if err != nil {
		return err
	}
	if r.ContentLength > limit+extra { // refused before it is sent
		return fileTooLarge(nil, limit)
	}
	// The limit is one byte larger, so that content notices a file that is too
	// large.
	target, c, err := open(http.MaxBytesReader(w, io.NopCloser(from), limit+extra+1))
	if err != nil {
		return err
	}
	c.left, c.max = limit, limit
	_, err = s.Sandboxes.WriteFile(r.Context(), id, target, c)
	if err != nil && c.err != nil && !errors.Is(c.err, io.EOF) {
		return c.err
	}
	return err
}

// readTarget reads the destination of putFile's content.
func readTarget(r *http.Request) (control.WriteFile, error) {
	if typ, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && typ == "multipart/form-data" {
		return control.WriteFile{}, withStatus(http.StatusUnsupportedMediaType,
			fault.New(fault.Invalid, "unsupported_media_type", "this operation takes the content itself as its body; send forms to POST files/write"))
	}
	q, err := readQuery(r)
	if err != nil {
		return control.WriteFile{}, err
	}
	t, err := targetOf(q)
	if err != nil {
		return control.WriteFile{}, err
	}
	return t.validate()
}

func fileTooLarge(cause error, limit int64) error {
	return fault.Wrap(cause, fault.TooLarge, "file_too_large", "the file may have at most %d bytes", limit)
}

// content is the reader of an uploaded file.
//
// Invariants: io.EOF is returned only when the whole file has come and the form
// around it is valid, so that the writer of the file may commit it at io.EOF.
// Every later read returns the first error again.
type content struct {
	src io.Reader
	// left is the number of bytes, of max, that may still come.
	left, max int64
	// end, if set, checks the rest of the body after the file.
	end func() error
	// broken and tooLarge make the errors of the content. Nil makes those of a file.
	broken   func(cause error) error
	tooLarge func(cause error, limit int64) error
	err      error
}

// Read implements io.Reader. Errors are faults.
func (c *content) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.src.Read(p)
	if int64(n) > c.left {
		c.err = c.overLimit(nil)
		return 0, c.err
	}
	c.left -= int64(n)
	switch {
	case err == nil:
		return n, nil
	case !errors.Is(err, io.EOF):
		c.err = c.classify(err)
	case c.end != nil:
		c.err = c.end()
	}
	if c.err == nil {
		c.err = io.EOF
	}
	return n, c.err
}

func (c *content) classify(err error) error {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return c.overLimit(err)
	}
	if c.broken != nil {
		return c.broken(err)
	}
	return uploadIncomplete(err)
}

func (c *content) overLimit(cause error) error {
	if c.tooLarge != nil {
		return c.tooLarge(cause, c.max)
	}
	return fileTooLarge(cause, c.max)
}

func uploadIncomplete(cause error) error {
	return fault.Wrap(cause, fault.Invalid, "upload_incomplete", "the upload ended too early; nothing was written")
}

// target is the destination of an upload, as in the request.
type target struct {
	path, mode, user string
	given            map[string]bool
}

// targetOf reads the fields of a target in q.
func targetOf(q url.Values) (target, error) {
	t := target{given: make(map[string]bool)}
	for _, name := range []string{"path", "mode", "user"} {
		v, err := one(q, name)
		if err != nil {
			return t, err
		}
		if q.Has(name) {
			_ = t.set(name, v) // known, and the first
		}
	}
	return t, nil
}

// set stores one field, which may come once.
func (t *target) set(name, value string) error {
	dst := map[string]*string{"path": &t.path, "mode": &t.mode, "user": &t.user}[name]
	switch {
	case dst == nil:
		return fault.New(fault.Invalid, "unknown_field", "unknown form field %q", name)
	case t.given[name]:
		return fault.New(fault.Invalid, "duplicate_field", "%s is given twice", name)
	}
	t.given[name] = true
	*dst = value
	return nil
}

// validate returns t in the domain's terms.
func (t target) validate() (control.WriteFile, error) {
	out := control.WriteFile{Path: t.path, User: t.user}
	if err := sandbox.ValidateGuestPath(t.path); err != nil {
		return out, err
	}
	if err := validateUser(t.user); err != nil {
		return out, err
	}
	if !t.given["mode"] {
		return out, nil
	}
	mode, err := parseMode(t.mode)
	out.Mode = mode
	return out, err
}
