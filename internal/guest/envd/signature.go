package envd

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/guest/agent"
)

// The operations that a signature can allow.
const (
	operationRead  = "read"
	operationWrite = "write"
)

// fileOperation returns the operation of a request to which a signature may admit, and
// "" for every other request.
func fileOperation(r *http.Request) string {
	if r.URL.Path != "/files" {
		return ""
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return operationRead
	case http.MethodPost:
		return operationWrite
	default:
		return ""
	}
}

// signature returns the replacement of the token in the URL of a file: "v1_" and
// the unpadded base64 of SHA-256 over path, operation, user, token and, unless
// empty, the expiration in Unix seconds, joined by colons.
func signature(path, operation, user, token, expiration string) string {
	parts := []string{path, operation, user, token}
	if expiration != "" {
		parts = append(parts, expiration)
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, ":")))
	return "v1_" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// checkFileAccess requires the token or, without one, a signature over the query
// that allows operation at the time now.
func checkFileAccess(s *agent.Settings, h http.Header, q url.Values, operation string, now time.Time) error {
	if values := h.Values(headerToken); len(values) > 0 {
		if !s.AdmitsPublic(values[0]) {
			return agent.Unauthenticated("the access token is wrong")
		}
		return nil
	}
	if s.EnvdToken == "" {
		return agent.Unauthenticated("the access token is missing or wrong")
	}
	given := q.Get("signature")
	if given == "" {
		return agent.Unauthenticated("missing signature query parameter")
	}
	expiration := q.Get("signature_expiration")
	want := signature(q.Get("path"), operation, q.Get("username"), s.EnvdToken, expiration)
	if subtle.ConstantTimeCompare([]byte(given), []byte(want)) != 1 {
		return agent.Unauthenticated("invalid signature")
	}
	if expiration == "" {
		return nil
	}
	at, err := strconv.ParseInt(expiration, 10, 64)
	if err != nil {
		return agent.Unauthenticated("invalid signature")
	}
	if at < now.Unix() {
		return agent.Unauthenticated("signature is already expired")
	}
	return nil
}
