package client

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestCreateTelling: the stages are told, and the end of the stream is the outcome. Servers
// of an earlier version answer with the sandbox.
func TestCreateTelling(t *testing.T) {
	const stages = "event: progress\ndata: {\"stage\":\"booting_template\",\"elapsed_ms\":1500}\n\n: alive\n\nevent: later\ndata: {}\n\n"
	for name, c := range map[string]struct {
		typ, body, id, fails string
		told                 int
	}{
		"created":    {"text/event-stream", stages + "event: sandbox\ndata: {\"id\":\"a\"}\n\n", "a", "", 1},
		"failed":     {"text/event-stream", stages + "event: error\ndata: {\"error\":{\"code\":\"no_capacity\",\"message\":\"full\"}}\n\n", "", "no_capacity", 1},
		"broken off": {"text/event-stream", stages, "", "broke off", 1},
		"bad":        {"text/event-stream", "event: sandbox\ndata: {\n\n", "", "not what the API promises", 0},
		"earlier":    {"application/json", `{"id":"a"}`, "a", "", 0},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept") != "text/event-stream" || r.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s: headers %v", name, r.Header)
			}
			w.Header().Set("Content-Type", c.typ)
			_, _ = io.WriteString(w, c.body)
		}))
		told := 0
		sb, err := (&Client{BaseURL: srv.URL}).CreateTelling(t.Context(), CreateRequest{}, func(p CreateProgress) {
			if told++; p.Stage != "booting_template" || p.ElapsedMS != 1500 {
				t.Errorf("%s: told %+v", name, p)
			}
		})
		switch {
		case told != c.told:
			t.Errorf("%s: %d stages were told, want %d", name, told, c.told)
		case c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)):
			t.Errorf("%s: %v, want %s", name, err, c.fails)
		case c.fails == "" && (err != nil || sb.ID != c.id):
			t.Errorf("%s: %+v, %v", name, sb, err)
		}
		srv.Close()
	}
}
