package rest

import (
	"net/http"

	"github.com/wrenn-dev/wrenn/internal/errorcodes"
)

// errorCodeJSON is the schema ErrorCode.
type errorCodeJSON struct {
	Code     string `json:"code"`
	Statuses []int  `json:"statuses"`
	Cause    string `json:"cause"`
	Remedy   string `json:"remedy"`
}

func (s *server) listErrors(w http.ResponseWriter, _ *http.Request) {
	all := errorcodes.All()
	out := make([]errorCodeJSON, len(all))
	for i, e := range all {
		out[i] = errorCodeJSON{e.Code, append([]int{}, e.Statuses...), e.Cause, e.Remedy}
	}
	writeJSON(w, http.StatusOK, out)
}

// errorsPage serves the table for people.
func (s *server) errorsPage(w http.ResponseWriter, _ *http.Request) {
	setDocsHeaders(w.Header())
	w.Header().Set("Content-Type", "text/markdown; charset=utf-8")
	_, _ = w.Write([]byte(errorcodes.Markdown()))
}
