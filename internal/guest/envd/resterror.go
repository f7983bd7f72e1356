package envd

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faulthttp"
	"github.com/wrenn-dev/wrenn/internal/guest/agent"
	"github.com/wrenn-dev/wrenn/internal/guest/filesystem"
)

// headerReason is the header with the fault's reason, for which the error body of
// the protocol has no field.
const headerReason = "Wrenn-Error-Reason"

// writeError answers with the error shape of the plain HTTP endpoints.
func writeError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}{status, message})
}

// writeFault answers with err. A full disk is 507, as the protocol's clients
// expect; everything else is as in faulthttp.
func writeFault(w http.ResponseWriter, err error) {
	f := fault.As(err)
	status := faulthttp.Status(f.Kind)
	switch {
	case f.Reason == filesystem.ReasonDiskFull:
		status = http.StatusInsufficientStorage
	case f.Reason == agent.ErrSealed.Reason:
		status = http.StatusServiceUnavailable
	}
	w.Header().Set(headerReason, f.Reason)
	writeError(w, status, f.Public)
}

// writeJSON answers with v. It ignores write errors, because the peer is gone.
func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("envd: unencodable answer: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b)
}
