package traffic

import (
	"crypto/subtle"
	"net/http"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// headerEnvdToken has the token of the guest's public server, which gets it too.
const headerEnvdToken = "X-Access-Token"

// admitEnvd reports whether r may reach the guest's public server. That server checks
// its own token, so that everyone may reach it; but only the holder of the token may
// resume a paused sandbox.
func admitEnvd(r *http.Request, t target, row control.Sandbox) bool {
	if t.port != sandbox.EnvdPort {
		return false
	}
	token := row.Spec.EnvdTokenOf(row.ID)
	return row.State == sandbox.Running || token != "" && subtle.ConstantTimeCompare([]byte(r.Header.Get(headerEnvdToken)), []byte(token)) == 1
}

// isPreflight reports whether r is the question of a browser before a request of a page
// of another origin. It carries no credentials, and the request that follows does.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.ContentLength == 0 &&
		r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
}

// answerPreflight answers r as the guest's public server does. A question must not
// resume a sandbox.
func answerPreflight(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "*, Authorization")
	h.Set("Access-Control-Max-Age", "7200")
	w.WriteHeader(http.StatusNoContent)
}
