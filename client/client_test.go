package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// serve starts a server with one handler for every request.
func serve(t *testing.T, h http.HandlerFunc) *client.Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return &client.Client{BaseURL: srv.URL + "/", APIKey: "secret", HTTPClient: srv.Client()}
}

func TestErrors(t *testing.T) {
	cases := []struct {
		name, answer string
		header       map[string]string
		want         client.Error
	}{
		{
			name:   "of the API",
			answer: `{"error":{"code":"no_capacity","message":"no host has room"}}`,
			header: map[string]string{"X-Request-Id": "req1", "Retry-After": "7"},
			want:   client.Error{Code: "no_capacity", Message: "no host has room", RequestID: "req1", RetryAfter: 7 * time.Second},
		},
		{
			name:   "of a proxy",
			answer: `<html>bad gateway</html>`,
			want:   client.Error{Message: "which is not an answer of Wrenn's API"},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cl := serve(t, func(w http.ResponseWriter, r *http.Request) {
				for k, v := range c.header {
					w.Header().Set(k, v)
				}
				w.WriteHeader(http.StatusServiceUnavailable)
				fmt.Fprint(w, c.answer)
			})
			_, err := cl.Create(t.Context(), client.CreateRequest{})
			var got *client.Error
			if !errors.As(err, &got) {
				t.Fatalf("got %v, want a *client.Error", err)
			}
			if got.Status != http.StatusServiceUnavailable || got.Code != c.want.Code || got.RequestID != c.want.RequestID ||
				got.RetryAfter != c.want.RetryAfter || !strings.Contains(got.Message, c.want.Message) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestAnswerOfAnotherServer(t *testing.T) {
	cl := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") })
	_, err := cl.Get(t.Context(), "abc")
	var apiErr *client.Error
	if err == nil || errors.As(err, &apiErr) {
		t.Errorf("got %v, want an error that is not the API's", err)
	}
}

func TestImpossibleIDIsNotSent(t *testing.T) {
	cl := serve(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("request %s", r.URL) })
	for _, id := range []string{"", "..", "a/b", "A", "a?b", "a%2fb"} {
		var e *client.Error
		if err := cl.Destroy(t.Context(), id); !errors.As(err, &e) || e.Code != "sandbox_not_found" {
			t.Errorf("Destroy(%q): %v, want sandbox_not_found", id, err)
		}
	}
}

func TestAllFollowsPages(t *testing.T) {
	pages := map[string]struct{ ids, next string }{"": {"a,b", "2"}, "2": {"c", "3"}, "3": {"", ""}}
	cl := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.Query().Get("status"); got != "running,paused" {
			t.Errorf("status %q", got)
		}
		page := pages[r.URL.Query().Get("cursor")]
		list := []client.Sandbox{}
		for id := range strings.SplitSeq(page.ids, ",") {
			if id != "" {
				list = append(list, client.Sandbox{ID: id})
			}
		}
		if page.next != "" {
			w.Header().Set("X-Next-Cursor", page.next)
		}
		_ = json.NewEncoder(w).Encode(list)
	})
	var ids []string
	for sb, err := range cl.All(t.Context(), client.ListOptions{Status: []string{"running", "paused"}}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, sb.ID)
	}
	if !slices.Equal(ids, []string{"a", "b", "c"}) {
		t.Errorf("got %v", ids)
	}
}

func TestExec(t *testing.T) {
	cl := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var got map[string]any
		_ = json.NewDecoder(r.Body).Decode(&got)
		want := map[string]any{
			"cmd": "wc", "args": []any{"-c"}, "env": map[string]any{"A": "1"}, "cwd": "/tmp", "user": "root",
			"stdin": "AP8=", "stdin_encoding": "base64", "timeout_sec": 2.0,
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("body %v, want %v", got, want)
		}
		if key := r.Header.Get("Authorization"); key != "Bearer secret" {
			t.Errorf("Authorization %q", key)
		}
		fmt.Fprint(w, `{"stdout":"AP8=","stderr":"","encoding":"base64","exit_code":137,"signal":"killed","duration_ms":1500,"stdout_truncated":true}`)
	})
	res, err := cl.Exec(t.Context(), "abc", client.ExecRequest{
		Cmd: "wc", Args: []string{"-c"}, Env: map[string]string{"A": "1"}, Cwd: "/tmp", User: "root",
		Stdin: []byte{0, 255}, Timeout: 1100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(res.Stdout, []byte{0, 255}) || res.ExitCode != 137 || res.Signal != "killed" ||
		res.Duration != 1500*time.Millisecond || !res.StdoutTruncated {
		t.Errorf("got %+v", res)
	}
}

func TestExecTimeoutKeepsOutput(t *testing.T) {
	cl := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusGatewayTimeout)
		fmt.Fprint(w, `{"error":{"code":"exec_timeout","message":"killed","details":{"stdout":"step 1\n","encoding":"utf-8","duration_ms":30}}}`)
	})
	_, err := cl.Exec(t.Context(), "abc", client.ExecRequest{Cmd: "x"})
	var e *client.Error
	if !errors.As(err, &e) || e.Partial == nil || string(e.Partial.Stdout) != "step 1\n" {
		t.Errorf("got %#v", err)
	}
}

func TestExecStream(t *testing.T) {
	const output = `{"type":"stdout","data":"a","encoding":"utf-8"}
{"type":"stderr","data":"AP8=","encoding":"base64"}
{"type":"news","data":"x"}
{"type":"stdout","data":"b\n","encoding":"utf-8"}
`
	cases := []struct {
		name, last string
		exit       int
		code       string // of the *client.Error wanted
		broken     bool
	}{
		{name: "exit", last: `{"type":"exit","exit_code":3,"signal":null,"duration_ms":5}`, exit: 3},
		{name: "failure", last: `{"type":"error","error":{"code":"exec_timeout","message":"killed"}}`, code: "exec_timeout"},
		{name: "broken off", last: ``, broken: true},
		{name: "broken off inside a line", last: `{"type":"ex`, broken: true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cl := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if accept := r.Header.Get("Accept"); accept != "application/x-ndjson" {
					t.Errorf("Accept %q", accept)
				}
				fmt.Fprint(w, output+c.last)
			})
			var stdout, stderr bytes.Buffer
			res, err := cl.ExecStream(t.Context(), "abc", client.ExecRequest{Cmd: "x"}, &stdout, &stderr)
			if stdout.String() != "ab\n" || stderr.String() != "\x00\xff" {
				t.Errorf("stdout %q, stderr %q", stdout.String(), stderr.String())
			}
			var e *client.Error
			switch {
			case c.broken:
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("got %v, want an unexpected end", err)
				}
			case c.code != "":
				if !errors.As(err, &e) || e.Code != c.code {
					t.Errorf("got %v, want %s", err, c.code)
				}
			case err != nil || res.ExitCode != c.exit:
				t.Errorf("got %+v, %v", res, err)
			}
		})
	}
}

type fullWriter struct{}

var errFull = errors.New("full")

func (fullWriter) Write([]byte) (int, error) { return 0, errFull }

func TestExecStreamEndsWhenTheWriterFails(t *testing.T) {
	hungUp := make(chan struct{})
	cl := serve(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, `{"type":"stdout","data":"a","encoding":"utf-8"}`)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(hungUp)
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := cl.ExecStream(ctx, "abc", client.ExecRequest{Cmd: "x"}, fullWriter{}, io.Discard); !errors.Is(err, errFull) {
		t.Errorf("got %v, want the writer's error", err)
	}
	<-hungUp
}

func TestFilesRoundTrip(t *testing.T) {
	stored := map[string][]byte{}
	cl := serve(t, func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Query().Get("path")
		if r.Method == http.MethodPut {
			if got := r.URL.Query(); got.Get("mode") != "0750" || got.Get("user") != "bob" {
				t.Errorf("query %v", got)
			}
			stored[path], _ = io.ReadAll(r.Body)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Disposition", `attachment; filename="a b.txt"`)
		_, _ = w.Write(stored[path])
	})
	content := strings.Repeat("x", 1<<20)
	up := client.Upload{Path: "/tmp/a b&c=d.txt", User: "bob", Mode: 0o750}
	if err := cl.WriteFile(t.Context(), "abc", up, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(maps.Keys(stored)); !slices.Equal(got, []string{up.Path}) {
		t.Fatalf("stored %v", got)
	}
	f, err := cl.ReadFile(t.Context(), "abc", up.Path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Body.Close()
	if got, err := io.ReadAll(f.Body); string(got) != content || err != nil || f.Name != "a b.txt" {
		t.Errorf("got %d bytes, name %q, %v", len(got), f.Name, err)
	}
}

func TestCutDownloadIsAnError(t *testing.T) {
	cl := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	f, err := cl.ReadFile(t.Context(), "abc", "/proc/x", "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Body.Close()
	if got, err := io.ReadAll(f.Body); err == nil {
		t.Errorf("a cut download ended as if whole: %q", got)
	}
}

// TestRefusedUploadIsNotRead sends content that never ends to a server that
// refuses it: the refusal must come back.
func TestRefusedUploadIsNotRead(t *testing.T) {
	cl := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"error":{"code":"not_running","message":"paused"}}`)
	})
	endless, _ := io.Pipe()
	defer endless.Close()
	err := cl.WriteFile(t.Context(), "abc", client.Upload{Path: "/x"}, endless)
	var e *client.Error
	if !errors.As(err, &e) || e.Code != "not_running" {
		t.Errorf("got %v, want not_running", err)
	}
}
