package rest

import (
	"errors"
	"io"
	"net/http"
	"regexp"

	"github.com/go-chi/chi/v5"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// maxBuildUpload is the largest upload for a build, in bytes.
const maxBuildUpload = 2 << 30

// digest is the form of a SHA-256.
var digest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// uploadKey names the upload in the request's path, which no template owns.
func uploadKey(r *http.Request) (templates.BlobKey, bool) {
	d := chi.URLParam(r, "digest")
	return templates.BlobKey{Key: d, Digest: d}, digest.MatchString(d)
}

func (s *server) getUpload(w http.ResponseWriter, r *http.Request) {
	key, valid := uploadKey(r)
	var here bool
	var err error
	if valid {
		here, err = s.Templates.HasBlob(r.Context(), key)
	}
	if err == nil && !here {
		err = fault.New(fault.NotFound, "upload_not_found", "there is no upload with this digest, or it has expired; send it with PUT /v1/templates/uploads/DIGEST")
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, types.TemplateUpload{Digest: key.Digest})
}

// putUpload stores the body, unless it is here.
func (s *server) putUpload(w http.ResponseWriter, r *http.Request) {
	p := s.paceOf(w)
	defer p.end()
	status, err := s.storeUpload(w, r, pacedReader{r.Body, p})
	if err != nil {
		w.Header().Set("Connection", "close") // rather than read the rest of a refused upload
		s.fail(w, r, err)
		return
	}
	key, _ := uploadKey(r)
	writeJSON(w, status, types.TemplateUpload{Digest: key.Digest})
}

func (s *server) storeUpload(w http.ResponseWriter, r *http.Request, from io.Reader) (status int, err error) {
	key, valid := uploadKey(r)
	if !valid {
		return 0, fault.New(fault.Invalid, "invalid_digest", "the path must end with the SHA-256 of the content, in 64 hexadecimal digits of lower case")
	}
	if err := checkEncoding(r.Header); err != nil {
		return 0, err
	}
	if r.ContentLength > maxBuildUpload { // refused before it is sent
		return 0, archiveTooLarge(nil, maxBuildUpload)
	}
	if here, err := s.Templates.HasBlob(r.Context(), key); err != nil || here {
		return http.StatusOK, err
	}
	// The limit is one byte larger, so that content notices an upload that is too large.
	body := http.MaxBytesReader(w, io.NopCloser(from), maxBuildUpload+1)
	c := &content{src: body, left: maxBuildUpload, max: maxBuildUpload, broken: uploadIncomplete, tooLarge: archiveTooLarge}
	err = s.Templates.PutBlob(r.Context(), key, c)
	if err != nil && c.err != nil && !errors.Is(c.err, io.EOF) {
		return 0, c.err
	}
	return http.StatusCreated, err
}
