package rest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Secrets holds the secret with which URLs are signed. All servers of an installation
// have the same.
type Secrets interface {
	SigningSecret(ctx context.Context) ([]byte, error)
}

// The operations of a signed URL.
const (
	signedRead  = "read"
	signedWrite = "write"
)

// Parameters of a signed URL.
const (
	signatureParam = "signature"
	expiresParam   = "expires"
	maxBytesParam  = "max_bytes"
)

// grant is the permission that a signed URL gives.
type grant struct {
	operation string
	sandbox   sandbox.ID
	path      string
	user      string
	// expires is in seconds of Unix time.
	expires int64
	// maxBytes bounds a written file; 0 is the server's limit.
	maxBytes int64
}

// sign returns the signature of g: HMAC-SHA256 over the fields, each with its length, so
// that no two grants have the same text.
func (g grant) sign(secret []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	for _, field := range []string{
		"wrenn signed URL 1", g.operation, string(g.sandbox), g.path, g.user,
		strconv.FormatInt(g.expires, 10), strconv.FormatInt(g.maxBytes, 10),
	} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(field)))
		mac.Write(size[:])
		mac.Write([]byte(field))
	}
	return mac.Sum(nil)
}

// query returns the query of the signed URL.
func (g grant) query(secret []byte) url.Values {
	q := url.Values{
		"path": {g.path}, expiresParam: {strconv.FormatInt(g.expires, 10)},
		signatureParam: {base64.RawURLEncoding.EncodeToString(g.sign(secret))},
	}
	if g.user != "" {
		q.Set("user", g.user)
	}
	if g.maxBytes > 0 {
		q.Set(maxBytesParam, strconv.FormatInt(g.maxBytes, 10))
	}
	return q
}

var (
	errSignature = fault.New(fault.Unauthenticated, "invalid_signature",
		"the signature is not that of this method, sandbox and query; sign the URL anew, and use it unchanged")
	errExpired = fault.New(fault.Unauthenticated, "signature_expired", "the signed URL has expired; sign it anew")
)

// grantOf reads the grant that a request claims. It has no parameter besides those that
// the signature covers, each at most once.
func grantOf(r *http.Request) (g grant, signature []byte, err error) {
	q, err := readQuery(r)
	if err != nil {
		return g, nil, err
	}
	for name, values := range q {
		if len(values) > 1 || !slices.Contains([]string{"path", "user", maxBytesParam, expiresParam, signatureParam}, name) {
			return g, nil, errSignature
		}
	}
	id, idErr := idOf(r)
	g = grant{operation: signedWrite, sandbox: id, path: q.Get("path"), user: q.Get("user")}
	if r.Method != http.MethodPut {
		g.operation = signedRead
	}
	signature, decodeErr := base64.RawURLEncoding.DecodeString(q.Get(signatureParam))
	expires, expiresOK := digits(q.Get(expiresParam))
	if g.expires = expires; idErr != nil || decodeErr != nil || len(signature) != sha256.Size || !expiresOK {
		return g, nil, errSignature
	}
	if q.Has(maxBytesParam) {
		var ok bool
		if g.maxBytes, ok = digits(q.Get(maxBytesParam)); !ok || g.maxBytes == 0 {
			return g, nil, errSignature
		}
	}
	return g, signature, nil
}

// verify returns an error unless r carries the signature of a grant for itself.
func (s *server) verify(r *http.Request) error {
	g, signature, err := grantOf(r)
	switch {
	case err != nil:
		return err
	case s.Secrets == nil:
		return errSignature
	case time.Now().Unix() >= g.expires: // before the database is asked
		return errExpired
	}
	secret, err := s.Secrets.SigningSecret(r.Context())
	if err != nil {
		return err
	}
	if !hmac.Equal(signature, g.sign(secret)) {
		return errSignature
	}
	return nil
}

// accessOrSignature passes a request on if it is signed, or else as access does. A
// signed request has no principal, so that no answer is kept for it.
func (s *server) accessOrSignature(next http.Handler) http.Handler {
	guarded := s.access(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !r.URL.Query().Has(signatureParam) {
			guarded.ServeHTTP(w, r)
			return
		}
		if err := s.verify(r); err != nil {
			s.fail(w, r, err)
			return
		}
		r.Header.Del(idempotencyHeader)
		next.ServeHTTP(w, r)
	})
}

// maxUpload returns the largest file that r may write. A signed URL may have a limit of
// its own, which accessOrSignature has verified.
func (s *server) maxUpload(r *http.Request) (int64, error) {
	q, err := readQuery(r)
	if err != nil {
		return 0, err
	}
	if !q.Has(signatureParam) && (q.Has(maxBytesParam) || q.Has(expiresParam)) {
		return 0, fault.New(fault.Invalid, "invalid_query", "max_bytes and expires are parameters of a signed URL, which has a signature too")
	}
	if limit, ok := digits(q.Get(maxBytesParam)); ok {
		return min(limit, s.MaxUploadBytes), nil
	}
	return s.MaxUploadBytes, nil
}

const (
	// maxExpiresSec is the longest lifetime of a signed URL, 7 days.
	maxExpiresSec     = 7 * 24 * 3600
	defaultExpiresSec = 3600
)

// readGrant reads a SignFileRequest.
func readGrant(w http.ResponseWriter, r *http.Request, id sandbox.ID) (grant, error) {
	g := grant{sandbox: id}
	seconds, maxBytes := defaultExpiresSec, 0
	var limited *int
	err := readJSON(w, r, fields{"path": &g.path, "operation": &g.operation, "expires_in_sec": &seconds, "user": &g.user, "max_bytes": &limited})
	if err == nil {
		err = sandbox.ValidateGuestPath(g.path)
	}
	if err == nil {
		err = validateUser(g.user)
	}
	if limited != nil {
		maxBytes = *limited
	}
	switch {
	case err != nil:
		return g, err
	case g.operation != signedRead && g.operation != signedWrite:
		return g, fault.New(fault.Invalid, "invalid_operation", "operation must be read or write")
	case seconds < 1 || seconds > maxExpiresSec:
		return g, fault.New(fault.Invalid, "invalid_expiry", "expires_in_sec must be from 1 to %d", maxExpiresSec)
	case limited != nil && (maxBytes < 1 || g.operation == signedRead):
		return g, fault.New(fault.Invalid, "invalid_max_bytes", "max_bytes must be 1 or more, and is of the operation write")
	}
	g.maxBytes, g.expires = int64(maxBytes), time.Now().Add(time.Duration(seconds)*time.Second).Unix()
	return g, nil
}

// signFile answers with a URL that reads or writes one file without an API key.
func (s *server) signFile(w http.ResponseWriter, r *http.Request) {
	id, err := idOf(r)
	var g grant
	if err == nil {
		g, err = readGrant(w, r, id)
	}
	if err == nil {
		err = s.signable(r.Context(), id)
	}
	var secret []byte
	if err == nil {
		secret, err = s.Secrets.SigningSecret(r.Context())
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, g.signed(r, secret))
}

// signable returns an error if no URL can be signed for a sandbox.
func (s *server) signable(ctx context.Context, id sandbox.ID) error {
	if s.Secrets == nil {
		return fault.New(fault.Unsupported, "signing_unsupported", "this server signs no URLs")
	}
	sb, err := s.Sandboxes.Get(ctx, id)
	if err == nil && sb.State.Ended() {
		err = fault.New(fault.WrongState, control.ReasonEnded, "sandbox %s has ended; create another", id)
	}
	return err
}

// signed returns the URL of g, at the address by which r came.
func (g grant) signed(r *http.Request, secret []byte) types.SignedURL {
	at := url.URL{Scheme: "http", Host: r.Host, Path: "/v1/sandboxes/" + string(g.sandbox) + "/files", RawQuery: g.query(secret).Encode()}
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		at.Scheme = "https"
	}
	out := types.SignedURL{URL: at.String(), Method: http.MethodGet, ExpiresAt: time.Unix(g.expires, 0).UTC()}
	if g.operation == signedWrite {
		out.Method = http.MethodPut
	}
	return out
}
