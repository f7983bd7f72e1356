package rest

import (
	"net/http"
	"os"
	"slices"
	"testing"

	"github.com/wrenn-dev/wrenn/api/types"
)

func TestErrorCodesAreServed(t *testing.T) {
	w := newWorld(t)
	list := decode[[]types.ErrorCode](w, w.want(w.call("GET", "/v1/errors", ""), http.StatusOK))
	at := slices.IndexFunc(list, func(e types.ErrorCode) bool { return e.Code == "sandbox_paused" })
	if at < 0 || !slices.Contains(list[at].Statuses, http.StatusConflict) || list[at].Remedy == "" {
		t.Errorf("sandbox_paused is not explained among %d codes", len(list))
	}
	page := w.want(w.call("GET", "/docs/errors.md", ""), http.StatusOK)
	if file, err := os.ReadFile("../../../docs/errors.md"); err != nil || string(file) != string(page.body) {
		t.Errorf("/docs/errors.md is not docs/errors.md (%v)", err)
	}
}
