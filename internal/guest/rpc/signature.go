package rpc

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// The operations that a signature can allow.
const (
	operationRead  = "read"
	operationWrite = "write"
)

// signature returns what stands for the token in the URL of a file: "v1_" and
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

// checkFileAccess demands the token, or without one a valid signature over the
// query, for operation at the time now.
func checkFileAccess(s *settings, h http.Header, q url.Values, operation string, now time.Time) error {
	if s.Token == "" {
		return nil
	}
	if values := h.Values(headerToken); len(values) > 0 {
		if !s.admits(values[0]) {
			return errAccess("the access token is wrong")
		}
		return nil
	}
	given := q.Get("signature")
	if given == "" {
		return errAccess("missing signature query parameter")
	}
	expiration := q.Get("signature_expiration")
	want := signature(q.Get("path"), operation, q.Get("username"), s.Token, expiration)
	if subtle.ConstantTimeCompare([]byte(given), []byte(want)) != 1 {
		return errAccess("invalid signature")
	}
	if expiration == "" {
		return nil
	}
	at, err := strconv.ParseInt(expiration, 10, 64)
	if err != nil {
		return errAccess("invalid signature")
	}
	if at < now.Unix() {
		return errAccess("signature is already expired")
	}
	return nil
}

func errAccess(message string) error {
	return fault.New(fault.Unauthenticated, "unauthenticated", "%s", message)
}
