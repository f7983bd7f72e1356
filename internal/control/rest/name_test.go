package rest

import (
	"net/http"
	"testing"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func TestCreateWithAName(t *testing.T) {
	w := newWorld(t)
	first := decode[types.Sandbox](w, w.want(w.call("POST", "/v1/sandboxes", `{"name":"web-1"}`), http.StatusCreated))
	if first.Name == nil || *first.Name != "web-1" {
		t.Errorf("name is %v, want web-1", first.Name)
	}
	if got := w.want(w.call("POST", "/v1/sandboxes", `{"name":"web-1"}`), http.StatusConflict).fault(w); got.Code != "name_taken" {
		t.Errorf("a name that is taken: %s, want name_taken", got.Code)
	}
	w.want(w.call("DELETE", "/v1/sandboxes/"+first.ID, ""), http.StatusNoContent)
	w.want(w.call("POST", "/v1/sandboxes", `{"name":"web-1"}`), http.StatusCreated)
	if none := decode[types.Sandbox](w, w.want(w.call("POST", "/v1/sandboxes", `{"name":""}`), http.StatusCreated)); none.Name != nil {
		t.Errorf("an empty name is shown as %q, want null", *none.Name)
	}
	for _, bad := range []string{"A", "-a", "a b", string(sandbox.NewID())} {
		if got := w.want(w.call("POST", "/v1/sandboxes", `{"name":"`+bad+`"}`), http.StatusBadRequest).fault(w); got.Code != "invalid_name" {
			t.Errorf("name %q: %s, want invalid_name", bad, got.Code)
		}
	}
}

func TestListByNameAndMetadata(t *testing.T) {
	w := newWorld(t)
	for _, body := range []string{
		`{"name":"a","metadata":{"job":"17","team":"x y"}}`, `{"name":"b","metadata":{"job":"17"}}`, `{"metadata":{"job":"18"}}`,
	} {
		w.want(w.call("POST", "/v1/sandboxes", body), http.StatusCreated)
	}
	for query, want := range map[string]int{
		"?name=a": 1, "?name=c": 0, "?metadata.job=17": 2, "?metadata.job=17&metadata.team=x%20y": 1,
		"?metadata.job=17&name=b": 1, "?metadata.job=": 0, "?metadata.none=1": 0,
	} {
		if got := decode[[]types.Sandbox](w, w.want(w.call("GET", "/v1/sandboxes"+query, ""), http.StatusOK)); len(got) != want {
			t.Errorf("%s: %d sandboxes, want %d", query, len(got), want)
		}
	}
	for query, code := range map[string]string{
		"?name=": "invalid_name", "?name=A": "invalid_name", "?name=a&name=b": "invalid_query",
		"?metadata.=1": "invalid_metadata", "?metadata.job=1&metadata.job=2": "invalid_query", "?metadata.a=%00": "invalid_metadata",
		"?metadata.a=%ff": "invalid_metadata",
	} {
		if got := w.want(w.call("GET", "/v1/sandboxes"+query, ""), http.StatusBadRequest).fault(w); got.Code != code {
			t.Errorf("%s: %s, want %s", query, got.Code, code)
		}
	}
}
