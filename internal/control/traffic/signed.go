package traffic

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// pathFiles is the only path of the guest's public server that takes signatures.
const pathFiles = "/files"

// isSigned reports whether r has a signature for one file in place of the token of the
// guest's public server, which checks it again. A transfer with one is use of the sandbox,
// but does not resume it.
func isSigned(r *http.Request, t target, row control.Sandbox) bool {
	token := row.Spec.EnvdTokenOf(row.ID)
	if t.port != sandbox.EnvdPort || token == "" || strings.TrimPrefix(r.URL.Path, t.prefix) != pathFiles {
		return false
	}
	operation := map[string]string{http.MethodGet: "read", http.MethodHead: "read", http.MethodPost: "write"}[r.Method]
	q := r.URL.Query()
	expiration := q.Get("signature_expiration")
	if expiration != "" {
		if at, err := strconv.ParseInt(expiration, 10, 64); err != nil || at < time.Now().Unix() {
			return false
		}
	}
	want := signature(q.Get("path"), operation, q.Get("username"), token, expiration)
	return operation != "" && subtle.ConstantTimeCompare([]byte(q.Get("signature")), []byte(want)) == 1
}

// signature returns the signature of E2B's protocol: "v1_" and the unpadded base64 of
// SHA-256 over its parts, joined by colons, of which the expiration may be missing.
func signature(path, operation, user, token, expiration string) string {
	parts := []string{path, operation, user, token}
	if expiration != "" {
		parts = append(parts, expiration)
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, ":")))
	return "v1_" + base64.RawStdEncoding.EncodeToString(sum[:])
}
