package rest

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
)

// newFiles makes a sandbox and returns the path of its files.
func (w *world) newFiles() string {
	w.Helper()
	sb := decode[types.Sandbox](w, w.want(w.call("POST", "/v1/sandboxes", "{}"), http.StatusCreated))
	return "/v1/sandboxes/" + sb.ID + "/files"
}

func TestListFilesByPages(t *testing.T) {
	w := newWorld(t)
	next := w.newFiles() + "/list?path=/data/&depth=2&limit=3"
	var paths []string
	for next != "" {
		a := w.want(w.call("GET", next, ""), http.StatusOK)
		for _, e := range decode[[]types.FileEntry](w, a) {
			paths = append(paths, e.Path)
		}
		link, _, _ := strings.Cut(strings.TrimPrefix(a.Header.Get("Link"), "<"), ">")
		next = link
		if (a.Header.Get("X-Next-Cursor") == "") != (link == "") {
			t.Errorf("got the cursor %q and the link %q, want both or neither", a.Header.Get("X-Next-Cursor"), link)
		}
		if len(paths) > 10 {
			t.Fatal("the pages do not end")
		}
	}
	if want := []string{"/data/a", "/data/b\uFFFD", "/data/c", "/data/c/d"}; !reflect.DeepEqual(paths, want) {
		t.Errorf("got %q, want %q", paths, want)
	}
}

func TestDescribeFiles(t *testing.T) {
	w := newWorld(t)
	files := w.newFiles()
	link := decode[types.FileEntry](w, w.want(w.call("GET", files+"/stat?path=/data/a", ""), http.StatusOK))
	if link.Type != "symlink" || link.Target == nil || *link.Target != "c/d" || link.Mode != "0640" || link.Name != "a" || link.Path != "/data/a" {
		t.Errorf("got %+v, want the link", link)
	}
	dir := decode[types.FileEntry](w, w.want(w.call("GET", files+"/stat?path=/data/c&follow=true", ""), http.StatusOK))
	if dir.Type != "directory" || dir.Target != nil || dir.Mode != "1777" {
		t.Errorf("got %+v, want the directory", dir)
	}
	w.want(w.call("GET", files+"/stat?path=/data/missing", ""), http.StatusNotFound)
}

func TestChangeFiles(t *testing.T) {
	w := newWorld(t)
	files := w.newFiles()
	made := decode[types.FileEntry](w, w.want(w.call("POST", files+"/mkdir", `{"path":"/data/new/","mode":"0700","user":"u"}`), http.StatusOK))
	if made.Path != "/data/new" {
		t.Errorf("got the path %q, want /data/new", made.Path)
	}
	w.want(w.call("POST", files+"/mkdir", `{"path":"/data/new","parents":false}`), http.StatusOK)
	w.want(w.call("POST", files+"/move", `{"from":"/data/a","to":"/data/b","overwrite":true}`), http.StatusOK)
	w.want(w.call("DELETE", files+"?path=/data/c&recursive=true", ""), http.StatusNoContent)
	mode := uint32(0o700)
	want := []control.FileCall{
		control.FileMakeDir{Path: "/data/new/", Parents: true, Mode: &mode, User: "u"},
		control.FileMakeDir{Path: "/data/new"},
		control.FileMove{From: "/data/a", To: "/data/b", Overwrite: true},
		control.FileRemove{Path: "/data/c", Recursive: true},
	}
	if !reflect.DeepEqual(w.fake.fileCalls, want) {
		t.Errorf("got %+v, want %+v", w.fake.fileCalls, want)
	}
}

func TestBadFileRequests(t *testing.T) {
	w := newWorld(t)
	files := w.newFiles()
	for _, name := range []string{"../x", "..", ".", "/x", "a/../b", "a//b", "a/", "a\x00"} {
		cursor := base64.RawURLEncoding.EncodeToString([]byte(name))
		a := w.want(w.call("GET", files+"/list?path=/a&cursor="+cursor, ""), http.StatusBadRequest)
		if got := a.fault(w).Code; got != "invalid_cursor" {
			t.Errorf("a cursor with the name %q: got %s, want invalid_cursor", name, got)
		}
	}
	for request, code := range map[string]string{
		"GET /list?path=/a&depth=0":                             "invalid_depth",
		"GET /list?path=/a&depth=65":                            "invalid_depth",
		"GET /list?path=/a&limit=0":                             "invalid_limit",
		"GET /list?path=/a&cursor=!":                            "invalid_cursor",
		"GET /list?path=/a&cursor=" + strings.Repeat("A", 7000): "invalid_cursor",
		"GET /list?path=/a&path=/b":                             "invalid_query",
		"GET /list":                                             "invalid_path",
		"GET /stat?path=a":                                      "invalid_path",
		"GET /stat?path=" + url.QueryEscape("/\xff"):            "invalid_path",
		"GET /stat?path=/a&follow=yes":                          "invalid_query",
		"DELETE ?path=/a&recursive=":                            "invalid_query",
		"DELETE ?path=":                                         "invalid_path",
		`POST /mkdir {"path":"/a","mode":"9"}`:                  "invalid_mode",
		`POST /mkdir {"path":"/a","user":"A B"}`:                "invalid_user",
		`POST /mkdir {}`:                                        "invalid_path",
		`POST /move {"from":"/a"}`:                              "invalid_path",
		`POST /move {"from":"/a","to":"/b","user":"A B"}`:       "invalid_user",
		`POST /move {"from":"/a","to":"/b","replace":true}`:     "unknown_field",
		"GET /list?path=/a&recursive=true":                      "unknown_parameter",
	} {
		method, rest, _ := strings.Cut(request, " ")
		path, body, _ := strings.Cut(rest, " ")
		a := w.want(w.call(method, files+path, body), http.StatusBadRequest)
		if got := a.fault(w).Code; got != code {
			t.Errorf("%s: got %s, want %s", request, got, code)
		}
	}
}

func TestWatchFiles(t *testing.T) {
	w := newWorld(t)
	files := w.newFiles()
	resp, err := http.Get(w.url + files + "/watch?path=/going&recursive=true")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("got %d with %v, %v; want events", resp.StatusCode, resp.Header, err)
	}
	want := "event: ready\ndata: {}\n\n" +
		"event: change\ndata: {\"type\":\"created\",\"path\":\"/going/a/b\uFFFD\"}\n\n" +
		"event: overflow\ndata: {}\n\n" +
		"event: change\ndata: {\"type\":\"removed\",\"path\":\"/going\"}\n\n" +
		"event: error\ndata: {\"error\":{\"code\":\"file_not_found\",\"message\":\"the watched directory was removed or moved\"}}\n\n"
	if got := string(body); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	w.want(w.call("GET", files+"/watch?path=/missing", ""), http.StatusNotFound)
	w.want(w.call("GET", files+"/watch?path=missing", ""), http.StatusBadRequest)
	w.want(w.call("GET", files+"/watch?path=/a&recursive=1", ""), http.StatusBadRequest)
}
