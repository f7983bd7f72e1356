package e2b

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

const (
	// linkTime is the time for which the link of an upload holds. An upload that has
	// begun may take longer.
	linkTime = time.Hour
	// stallTime is the longest that an upload may move no byte.
	stallTime = time.Minute
	// lingerTime bounds the wait for the rest of a refused upload.
	lingerTime = 5 * time.Second
)

// Secrets holds the secret with which links are signed. All servers of an installation
// have the same.
type Secrets interface {
	SigningSecret(ctx context.Context) ([]byte, error)
}

// uploadLink is the permission to upload the files of one step without an API key.
type uploadLink struct {
	template templates.ID
	hash     string
	// expires is in seconds of Unix time.
	expires int64
}

// sign returns the signature of l: HMAC-SHA256 over the fields, each with its length.
func (l uploadLink) sign(secret []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	for _, field := range []string{"wrenn template upload 1", string(l.template), l.hash, strconv.FormatInt(l.expires, 10)} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(field)))
		mac.Write(size[:])
		mac.Write([]byte(field))
	}
	return mac.Sum(nil)
}

// url returns the link, at the address by which r came.
func (l uploadLink) url(r *http.Request, secret []byte) string {
	at := url.URL{
		Scheme: "http", Host: r.Host, Path: "/templates/" + string(l.template) + "/files/" + l.hash + "/content",
		RawQuery: url.Values{
			"expires":   {strconv.FormatInt(l.expires, 10)},
			"signature": {base64.RawURLEncoding.EncodeToString(l.sign(secret))},
		}.Encode(),
	}
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		at.Scheme = "https"
	}
	return at.String()
}

// linkUpload tells whether the files of a step are here, and where they can be uploaded.
// Clients that force an upload use the link even if the files are here.
func (s *server) linkUpload(w http.ResponseWriter, r *http.Request) error {
	src, err := s.builtByName(r.Context(), param(r, "id"))
	if fault.Is(err, fault.NotFound) {
		err = noTemplate(param(r, "id"))
	}
	if err != nil {
		return err
	}
	hash := param(r, "hash")
	if !filesHash.MatchString(hash) {
		return invalid("the hash of files has 1 to 128 letters, digits, '_' and '-'")
	}
	present, err := s.Templates.HasBlob(r.Context(), templates.BlobKey{Template: src.built.ID, Key: hash})
	if err != nil {
		return err
	}
	secret, err := s.Secrets.SigningSecret(r.Context())
	if err != nil {
		return err
	}
	link := uploadLink{src.built.ID, hash, time.Now().Add(linkTime).Unix()}
	writeJSON(w, http.StatusCreated, map[string]any{"present": present, "url": link.url(r, secret)})
	return nil
}

// verify returns the link of r, whose signature it checks.
func (s *server) verify(r *http.Request) (uploadLink, error) {
	wrong := refuse(http.StatusUnauthorized, "", "the link is not one that this server has signed; ask for another")
	q := r.URL.Query()
	expires, err := strconv.ParseInt(q.Get("expires"), 10, 64)
	signature, decodeErr := base64.RawURLEncoding.DecodeString(q.Get("signature"))
	if err != nil || decodeErr != nil || len(signature) != sha256.Size || s.Templates == nil || s.Secrets == nil {
		return uploadLink{}, wrong
	}
	if time.Now().Unix() >= expires { // before the database is asked
		return uploadLink{}, refuse(http.StatusUnauthorized, "", "the link has expired; ask for another")
	}
	secret, err := s.Secrets.SigningSecret(r.Context())
	if err != nil {
		return uploadLink{}, err
	}
	l := uploadLink{templates.ID(param(r, "id")), param(r, "hash"), expires}
	if !hmac.Equal(signature, l.sign(secret)) {
		return uploadLink{}, wrong
	}
	return l, nil
}

// upload stores the files of a step. The link in the path stands for the API key.
func (s *server) upload(w http.ResponseWriter, r *http.Request) (err error) {
	rc := http.NewResponseController(w)
	defer func() { // net/http reads the rest of a refused body
		if err != nil {
			_ = rc.SetReadDeadline(time.Now().Add(lingerTime))
		}
	}()
	l, err := s.verify(r)
	switch {
	case err != nil:
		return err
	case r.ContentLength < 0:
		return refuse(http.StatusLengthRequired, "", "an upload must have a Content-Length")
	case r.ContentLength > s.MaxUploadBytes:
		return refuse(http.StatusRequestEntityTooLarge, "", "an upload may have at most %d bytes", s.MaxUploadBytes)
	}
	body := &uploadBody{r: http.MaxBytesReader(w, r.Body, r.ContentLength), rc: rc}
	defer func() { _ = rc.SetReadDeadline(time.Time{}) }()
	err = s.Templates.PutBlob(r.Context(), templates.BlobKey{Template: l.template, Key: l.hash}, body)
	switch {
	case body.failed:
		return invalid("the upload did not arrive whole")
	case err != nil:
		return err
	}
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
	return nil
}

// uploadBody is a body whose peer may not stall. failed tells that it broke off.
type uploadBody struct {
	r      io.Reader
	rc     *http.ResponseController
	failed bool
}

// Read implements io.Reader.
func (b *uploadBody) Read(p []byte) (int, error) {
	// Writers in tests that are not connections have no deadlines.
	_ = b.rc.SetReadDeadline(time.Now().Add(stallTime))
	n, err := b.r.Read(p)
	b.failed = b.failed || err != nil && err != io.EOF //nolint:errorlint // the sentinel itself
	return n, err
}
