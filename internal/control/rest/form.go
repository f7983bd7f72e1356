package rest

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// maxSpool is the largest file, in bytes, that may come before the fields with
// its destination. It is kept in memory until they arrive.
const maxSpool = 1 << 20

// form is a multipart form (RFC 7578) that is read as a stream. A small file is
// read whole, so that fields may follow it; a larger one is left to the caller
// from its beginning.
type form struct {
	target control.WriteFile
	file   io.Reader
	// parts reads the parts after the file; nil when all of the form has been read.
	parts *multipart.Reader
}

// openForm reads the form up to a file that is larger than maxSpool, or to its
// end. Query parameters q count as fields, for clients that cannot order theirs.
func openForm(h http.Header, body io.Reader, q url.Values) (*form, error) {
	typ, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || typ != "multipart/form-data" {
		return nil, withStatus(http.StatusUnsupportedMediaType,
			fault.Wrap(err, fault.Invalid, "unsupported_media_type", "Content-Type must be multipart/form-data"))
	}
	if params["boundary"] == "" {
		return nil, fault.New(fault.Invalid, "invalid_form", "the Content-Type has no boundary")
	}
	t, err := targetOf(q)
	if err != nil {
		return nil, err
	}
	parts := multipart.NewReader(body, params["boundary"])
	f := &form{}
	for {
		part, err := parts.NextPart()
		switch {
		case errors.Is(err, io.EOF):
			return f.finish(t)
		case err != nil:
			return nil, invalidForm(err)
		case part.FormName() != "file":
			err = readFormField(&t, part)
		case f.file != nil:
			err = fault.New(fault.Invalid, "duplicate_field", "file is given twice")
		default:
			err = f.take(part)
		}
		if err != nil {
			return nil, err
		}
		if f.parts = nil; f.file != nil && !f.whole() {
			f.parts = parts
			return f.finish(t)
		}
	}
}

// spooled is a file that has been read whole.
type spooled struct{ *bytes.Reader }

// whole reports whether the file has been read whole.
func (f *form) whole() bool {
	_, ok := f.file.(spooled)
	return ok
}

// take reads the file's beginning: all of it, if it is not larger than maxSpool.
func (f *form) take(part *multipart.Part) error {
	var head bytes.Buffer
	n, err := io.CopyN(&head, part, maxSpool+1)
	switch {
	case errors.Is(err, io.EOF):
		f.file = spooled{bytes.NewReader(head.Bytes())}
		return nil
	case err != nil:
		return uploadIncomplete(err)
	case n <= maxSpool:
		return uploadIncomplete(io.ErrUnexpectedEOF)
	}
	f.file = io.MultiReader(&head, part)
	return nil
}

// finish checks that the file and its path are there, validates the fields t,
// and returns f with them.
func (f *form) finish(t target) (*form, error) {
	switch {
	case f.file == nil:
		return nil, fault.New(fault.Invalid, "missing_file", "the form has no field file")
	case !t.given["path"] && f.parts != nil:
		return nil, fault.New(fault.Invalid, "missing_path",
			"a file larger than %d bytes must come after path in the form, or with path as a query parameter: it is not kept in memory until its path is known", maxSpool)
	case !t.given["path"]:
		return nil, fault.New(fault.Invalid, "missing_path", "path is required, in the form or as a query parameter")
	}
	var err error
	f.target, err = t.validate()
	return f, err
}

// readFormField reads one small field into t.
func readFormField(t *target, part *multipart.Part) error {
	value, err := io.ReadAll(io.LimitReader(part, sandbox.MaxPathLen+1))
	if err != nil {
		return invalidForm(err)
	}
	return t.set(part.FormName(), string(value))
}

// end checks that no field follows a large file, because it would come too
// late.
func (f *form) end() error {
	if f.parts == nil {
		return nil
	}
	part, err := f.parts.NextPart()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return uploadIncomplete(err)
	default:
		return fault.New(fault.Invalid, "field_after_file",
			"the form field %q comes after a file larger than a mebibyte: fields must come before it, or as query parameters; nothing was written", part.FormName())
	}
}

func invalidForm(err error) error {
	return fault.Wrap(err, fault.Invalid, "invalid_form", "the form is malformed or ended too early")
}
