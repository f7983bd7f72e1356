package rest

import (
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

// form is a multipart form (RFC 7578) that is read as it comes: the fields
// first, then the file, which is left to the caller.
type form struct {
	target control.WriteFile
	file   io.Reader
	parts  *multipart.Reader
}

// openForm reads the fields that come before the file. Query parameters q
// count as fields, for clients that cannot order theirs.
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
	for {
		part, err := parts.NextPart()
		switch {
		case errors.Is(err, io.EOF):
			return nil, fault.New(fault.Invalid, "missing_file", "the form has no field file")
		case err != nil:
			return nil, invalidForm(err)
		case part.FormName() == "file":
			return startFile(t, part, parts)
		}
		if err := readFormField(&t, part); err != nil {
			return nil, err
		}
	}
}

// startFile returns the form with everything known that may be known.
func startFile(t target, part *multipart.Part, parts *multipart.Reader) (*form, error) {
	if !t.given["path"] {
		return nil, fault.New(fault.Invalid, "missing_path",
			"path is required, before file in the form or as a query parameter: the file is not kept until it is known where it goes")
	}
	where, err := t.validate()
	if err != nil {
		return nil, err
	}
	return &form{target: where, file: part, parts: parts}, nil
}

// readFormField reads one small field into t.
func readFormField(t *target, part *multipart.Part) error {
	value, err := io.ReadAll(io.LimitReader(part, sandbox.MaxPathLen+1))
	if err != nil {
		return invalidForm(err)
	}
	return t.set(part.FormName(), string(value))
}

// end checks that nothing follows the file: a field would come too late.
func (f *form) end() error {
	part, err := f.parts.NextPart()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return uploadIncomplete(err)
	default:
		return fault.New(fault.Invalid, "field_after_file",
			"the form field %q comes after file: fields must come before it, or as query parameters; nothing was written", part.FormName())
	}
}

func invalidForm(err error) error {
	return fault.Wrap(err, fault.Invalid, "invalid_form", "the form is malformed or ended too early")
}
