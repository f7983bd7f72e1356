package cli

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/client"
)

// TestCreateShowsItsStages: a terminal has one line that is replaced, and is empty at the end.
// Elsewhere the request asks for no events.
func TestCreateShowsItsStages(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != "text/event-stream" {
			_, _ = io.WriteString(w, `{"id":"a"}`)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "event: progress\ndata: {\"stage\":\"starting_template\",\"elapsed_ms\":1500}\n\n"+
			"event: progress\ndata: {\"stage\":\"new\\u001b\",\"elapsed_ms\":2500}\n\nevent: sandbox\ndata: {\"id\":\"a\"}\n\n")
	}))
	defer srv.Close()
	for terminal, want := range map[bool]string{
		true:  "\r\x1b[Kwaiting for the start command of the template (1.50 s)\r\x1b[Knew? (2.50 s)\r\x1b[K",
		false: "",
	} {
		var out bytes.Buffer
		a := New(IO{In: strings.NewReader(""), Out: io.Discard, Err: &out, Progress: terminal, LookupEnv: func(string) (string, bool) { return "", false }})
		a.url = srv.URL
		sb, err := a.create(t.Context(), client.CreateRequest{})
		if err != nil || sb.ID != "a" || out.String() != want {
			t.Errorf("terminal %t: %+v, %v, %q; want %q", terminal, sb, err, out.String(), want)
		}
	}
}
