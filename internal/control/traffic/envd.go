package traffic

import (
	"crypto/subtle"
	"net/http"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// headerEnvdToken has the token of the guest's public server, which gets it too.
const headerEnvdToken = "X-Access-Token"

// hasEnvdToken reports whether r is for the guest's public server and has its token.
func hasEnvdToken(r *http.Request, t target, row control.Sandbox) bool {
	if t.port != sandbox.EnvdPort {
		return false
	}
	token := row.Spec.EnvdTokenOf(row.ID)
	return token != "" && subtle.ConstantTimeCompare([]byte(r.Header.Get(headerEnvdToken)), []byte(token)) == 1
}

// isPreflight reports whether r is a browser's question before a request of a page of
// another origin. A question carries no credentials, so that the server answers it
// itself and never passes it on. A request that asks for another protocol is none.
func isPreflight(r *http.Request) bool {
	_, upgrade := r.Header["Upgrade"]
	return r.Method == http.MethodOptions && r.ContentLength == 0 && !upgrade &&
		r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
}

// answerPreflight answers a preflight request as the guest's public server does. A
// question must neither resume a sandbox nor reach its programs.
func answerPreflight(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "*, Authorization")
	h.Set("Access-Control-Max-Age", "7200")
	w.WriteHeader(http.StatusNoContent)
}
