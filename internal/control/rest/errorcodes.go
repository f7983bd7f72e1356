package rest

import (
	"net/http"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/errorcodes"
)

func (s *server) listErrors(w http.ResponseWriter, _ *http.Request) {
	all := errorcodes.All()
	out := make([]types.ErrorCode, len(all))
	for i, e := range all {
		out[i] = types.ErrorCode{Code: e.Code, Statuses: append([]int{}, e.Statuses...), Cause: e.Cause, Remedy: e.Remedy}
	}
	writeJSON(w, http.StatusOK, out)
}

// errorsPage serves the table for people.
func (s *server) errorsPage(w http.ResponseWriter, _ *http.Request) {
	setDocsHeaders(w.Header())
	w.Header().Set("Content-Type", "text/markdown; charset=utf-8")
	_, _ = w.Write([]byte(errorcodes.Markdown()))
}
