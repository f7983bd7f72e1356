package e2b

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

const (
	// maxBodyBytes bounds the body of a request.
	maxBodyBytes = 1 << 20
	// bodyTimeout is the time that a body may take to arrive.
	bodyTimeout = 30 * time.Second
)

// readBody returns the body of r, which may be empty.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	rc := http.NewResponseController(w)
	// Writers in tests that are not connections have no deadlines.
	_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	_ = rc.SetReadDeadline(time.Time{})
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, refuse(http.StatusRequestEntityTooLarge, "", "the body may have at most %d bytes", maxBodyBytes)
	}
	if err != nil {
		return nil, invalid("the body did not arrive whole")
	}
	return body, nil
}

// readJSON decodes the body of r into v. Unknown fields are ignored; a missing body and
// null leave v unchanged.
func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := readBody(w, r)
	if err != nil || len(bytes.TrimSpace(body)) == 0 {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		var typ *json.UnmarshalTypeError
		if errors.As(err, &typ) && typ.Field != "" {
			return invalid("the field %s cannot be a %s", typ.Field, typ.Value)
		}
		return invalid("the body is not a JSON object")
	}
	return nil
}

// param returns a part of the path, decoded.
func param(r *http.Request, name string) string {
	raw := chi.URLParam(r, name)
	if decoded, err := url.PathUnescape(raw); err == nil && r.URL.RawPath != "" {
		return decoded
	}
	return raw
}

// sandboxID returns the sandbox of the path. Old clients append "-" and the id of a
// client, which is ignored.
func sandboxID(r *http.Request) (sandbox.ID, error) {
	given := param(r, "id")
	text, _, _ := strings.Cut(given, "-")
	id, err := sandbox.ParseID(text)
	if err != nil {
		return "", noSandbox(given)
	}
	return id, nil
}

// noSandbox is the answer to a request for a sandbox that is unknown or has ended.
func noSandbox(id string) error {
	const most = 64
	if len(id) > most {
		id = id[:most]
	}
	return refuse(http.StatusNotFound, "", "Sandbox %q doesn't exist or you don't have access to it", id)
}

const maxPage = 100 // rows of one page

// limitOf returns the size of a page.
func limitOf(q url.Values) (int, error) {
	text := q.Get("limit")
	if text == "" {
		return maxPage, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, invalid("limit must be from 1 to %d", maxPage)
	}
	return min(n, maxPage), nil
}
