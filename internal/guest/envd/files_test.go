package envd

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func filesPath(path string, more ...string) string {
	q := url.Values{"path": {path}}
	for i := 0; i < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return "/files?" + q.Encode()
}

const octets = "application/octet-stream"

func TestUploadAndDownload(t *testing.T) {
	g := newGuest(t).open()
	path := filepath.Join(t.TempDir(), "sub/file.txt")
	r := g.do(http.MethodPost, filesPath(path, "mode", "600"), strings.NewReader("content"), "Content-Type", octets, "X-Metadata-Key", "value")
	want := `[{"path":"` + path + `","name":"file.txt","type":"file","metadata":{"key":"value"}}]`
	if r.status != http.StatusOK || r.body != want {
		t.Errorf("%d %s", r.status, r.body)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
	r = g.do(http.MethodGet, filesPath(path), nil, "Accept-Encoding", "identity")
	if r.body != "content" || r.header.Get("Content-Length") != "7" || r.header.Get("Vary") != "Accept-Encoding" {
		t.Errorf("%q %v", r.body, r.header)
	}
	r = g.do(http.MethodGet, filesPath(path), nil, "Accept-Encoding", "gzip", "Range", "bytes=1-3")
	if r.status != http.StatusPartialContent || r.body != "ont" {
		t.Errorf("range: %d %q", r.status, r.body)
	}
	for _, accepted := range []string{"gzip, deflate", "br, gzip;q=0.5", "*"} {
		if r = g.do(http.MethodGet, filesPath(path), nil, "Accept-Encoding", accepted); r.body != "content" || r.header.Get("Content-Encoding") != "" {
			t.Errorf("Accept-Encoding: %s: %q %v, want the bytes of the file", accepted, r.body, r.header)
		}
	}
	r = g.do(http.MethodGet, filesPath(path), nil, "Accept-Encoding", "gzip")
	zr, err := gzip.NewReader(strings.NewReader(r.body))
	if err != nil || r.header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("%v %v", err, r.header)
	}
	if b, err := io.ReadAll(zr); err != nil || string(b) != "content" {
		t.Errorf("gzip: %q, %v", b, err)
	}
}

func TestDownloadOfEmptyAndKernelFiles(t *testing.T) {
	g := newGuest(t).open()
	path := filepath.Join(t.TempDir(), "empty")
	g.do(http.MethodPost, filesPath(path), nil, "Content-Type", octets)
	if r := g.do(http.MethodGet, filesPath(path), nil, "Accept-Encoding", "identity"); r.status != http.StatusOK || r.header.Get("Content-Length") != "0" {
		t.Errorf("%d %v", r.status, r.header)
	}
	if r := g.do(http.MethodGet, filesPath("/proc/self/status"), nil, "Accept-Encoding", "identity"); !strings.Contains(r.body, "Pid:") {
		t.Errorf("%d %q", r.status, r.body)
	}
}

func TestFileErrors(t *testing.T) {
	g := newGuest(t).open()
	dir := t.TempDir()
	tests := []struct {
		name, method, path string
		header             []string
		status             int
	}{
		{"missing", http.MethodGet, filesPath(dir + "/none"), nil, 404},
		{"directory", http.MethodGet, filesPath(dir), nil, 400},
		{"device", http.MethodGet, filesPath("/dev/zero"), nil, 400},
		{"unknown user", http.MethodGet, filesPath("/etc/passwd", "username", "no-such"), nil, 401},
		{"another's home", http.MethodGet, filesPath("~other/x"), nil, 400},
		{"nothing acceptable", http.MethodGet, filesPath("/etc/passwd"), []string{"Accept-Encoding", "br, identity;q=0"}, 406},
		{"write to directory", http.MethodPost, filesPath(dir), []string{"Content-Type", octets}, 400},
		{"no path", http.MethodPost, "/files", []string{"Content-Type", octets}, 400},
		{"no type", http.MethodPost, filesPath(dir + "/f"), nil, 400},
		{"other type", http.MethodPost, filesPath(dir + "/f"), []string{"Content-Type", "text/plain"}, 400},
		{"other encoding", http.MethodPost, filesPath(dir + "/f"), []string{"Content-Type", octets, "Content-Encoding", "br"}, 400},
		{"broken gzip", http.MethodPost, filesPath(dir + "/f"), []string{"Content-Type", octets, "Content-Encoding", "gzip"}, 400},
		{"mode", http.MethodPost, filesPath(dir+"/f", "mode", "7777"), []string{"Content-Type", octets}, 400},
		{"unknown endpoint", http.MethodGet, "/nowhere", nil, 404},
	}
	for _, tt := range tests {
		r := g.do(tt.method, tt.path, strings.NewReader("x"), tt.header...)
		if r.status != tt.status || !strings.Contains(r.body, `"message":`) {
			t.Errorf("%s: %d %s, want %d", tt.name, r.status, r.body, tt.status)
		}
	}
	if exists(dir + "/f") {
		t.Error("a refused upload left a file")
	}
}

// TestEncodings: gzip is sent if it is the only compression asked for, or the only one left.
func TestEncodings(t *testing.T) {
	for header, want := range map[string]encoding{
		"": encodingIdentity, "gzip": encodingGzip, "gzip;q=0": encodingIdentity, "gzip, identity": encodingGzip, "gzip, *": encodingGzip,
		"gzip, deflate": encodingIdentity, "zstd,gzip,br": encodingIdentity, "gzip, br, identity;q=0": encodingGzip,
		"br, *;q=0": encodingNone, "identity;q=0": encodingNone,
	} {
		if got := chooseEncoding(header); got != want {
			t.Errorf("Accept-Encoding: %q: got %d, want %d", header, got, want)
		}
	}
}

// TestLargeParts: a part arrives whole in pieces of any size.
func TestLargeParts(t *testing.T) {
	g := newGuest(t).open()
	dir, content := t.TempDir(), make([]byte, 1<<20+7)
	for i := range content {
		content[i] = byte(i * 7919 >> 8)
	}
	var body bytes.Buffer
	mw := multipart.NewWriter(&body)
	for _, name := range []string{"a", "b"} {
		w, err := mw.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="file"; filename="` + dir + "/" + name + `"`}})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(content)
	}
	_ = mw.Close()
	whole := body.Bytes()
	if r := g.do(http.MethodPost, "/files", bytes.NewReader(whole), "Content-Type", mw.FormDataContentType()); r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.body)
	}
	for _, name := range []string{"a", "b"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s has %d bytes, %v; want the %d that were sent", name, len(got), err, len(content))
		}
	}
	cut := g.do(http.MethodPost, filesPath(dir+"/c"), bytes.NewReader(whole[:len(content)/2]), "Content-Type", mw.FormDataContentType())
	if cut.status != http.StatusBadRequest || exists(dir+"/c") {
		t.Errorf("half a part: %d %s, want 400 and no file", cut.status, cut.body)
	}
}

// TestCompose: files are concatenated in their order, also into one of them, and an error
// leaves the destination as it was.
func TestCompose(t *testing.T) {
	g := newGuest(t).open()
	dir := t.TempDir()
	for name, content := range map[string]string{"a": "first ", "b": "", "c": "second"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	compose := func(destination string, sources ...string) response {
		body, err := json.Marshal(map[string]any{"source_paths": sources, "destination": destination})
		if err != nil {
			t.Fatal(err)
		}
		return g.do(http.MethodPost, "/files/compose", bytes.NewReader(body), "Content-Type", "application/json")
	}
	holds := func(name, want string) {
		t.Helper()
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v; want %q", name, got, err, want)
		}
	}
	to := filepath.Join(dir, "new/all")
	if r := compose(to, dir+"/a", dir+"/b", dir+"/c"); r.status != http.StatusOK || r.body != `{"path":"`+to+`","name":"all","type":"file"}` {
		t.Errorf("%d %s", r.status, r.body)
	}
	holds("new/all", "first second")
	if r := compose(dir+"/a", dir+"/c", dir+"/a"); r.status != http.StatusOK {
		t.Errorf("%d %s", r.status, r.body)
	}
	holds("a", "secondfirst ")
	for name, c := range map[string]struct {
		destination string
		sources     []string
		status      int
	}{
		"missing source":     {dir + "/c", []string{dir + "/a", dir + "/none"}, http.StatusNotFound},
		"directory":          {dir + "/c", []string{dir}, http.StatusBadRequest},
		"no sources":         {dir + "/c", nil, http.StatusBadRequest},
		"no destination":     {"", []string{dir + "/a"}, http.StatusBadRequest},
		"too many":           {dir + "/c", make([]string, 1001), http.StatusBadRequest},
		"kernel's directory": {"/proc/x", []string{dir + "/a"}, http.StatusBadRequest},
	} {
		if r := compose(c.destination, c.sources...); r.status != c.status {
			t.Errorf("%s: %d %s, want %d", name, r.status, r.body, c.status)
		}
	}
	holds("c", "second")
	g.token = ""
	if r := compose(dir+"/c", dir+"/a"); r.status != http.StatusUnauthorized {
		t.Errorf("without a token: %d %s", r.status, r.body)
	}
}

func TestMultipart(t *testing.T) {
	g := newGuest(t).open()
	dir := t.TempDir()
	send := func(query string, filenames ...string) response {
		var body bytes.Buffer
		mw := multipart.NewWriter(&body)
		_ = mw.WriteField("other", "ignored")
		for _, name := range filenames {
			w, err := mw.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="file"; filename="` + name + `"`}})
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(w, "content of "+filepath.Base(name))
		}
		_ = mw.Close()
		return g.do(http.MethodPost, "/files"+query, &body, "Content-Type", mw.FormDataContentType())
	}
	if r := send("", dir+"/a/one", dir+"/two"); r.status != http.StatusOK || strings.Count(r.body, `"type":"file"`) != 2 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if b, err := os.ReadFile(dir + "/a/one"); err != nil || string(b) != "content of one" {
		t.Errorf("%q, %v", b, err)
	}
	if r := send("?path="+url.QueryEscape(dir+"/query"), "ignored/name"); r.status != http.StatusOK || !exists(dir+"/query") {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := send("", dir+"/same", dir+"/./same"); r.status != http.StatusBadRequest || !exists(dir+"/same") {
		t.Errorf("twice: %d %s", r.status, r.body)
	}
}

func TestFilesystemOnTheWire(t *testing.T) {
	g := newGuest(t).open()
	dir := t.TempDir()
	call := func(method string, m map[string]any) (int, map[string]any) {
		t.Helper()
		return g.call("/filesystem.Filesystem/"+method, m)
	}
	if status, out := call("MakeDir", map[string]any{"path": dir + "/a"}); status != 200 || out["entry"].(map[string]any)["type"] != "FILE_TYPE_DIRECTORY" {
		t.Errorf("%d %v", status, out)
	}
	if status, out := call("MakeDir", map[string]any{"path": dir + "/a"}); status != 409 || out["code"] != "already_exists" {
		t.Errorf("%d %v", status, out)
	}
	if status, out := call("Stat", map[string]any{"path": dir + "/none"}); status != 404 || out["code"] != "not_found" {
		t.Errorf("%d %v", status, out)
	}
	if status, out := call("Move", map[string]any{"source": dir + "/a", "destination": dir + "/x/b"}); status != 200 || out["entry"].(map[string]any)["path"] != dir+"/x/b" {
		t.Errorf("%d %v", status, out)
	}
	if status, out := call("ListDir", map[string]any{"path": dir, "depth": 2}); status != 200 || len(out["entries"].([]any)) != 2 {
		t.Errorf("%d %v", status, out)
	}
	if status, out := call("Remove", map[string]any{"path": dir + "/none"}); status != 200 {
		t.Errorf("%d %v", status, out)
	}
	s := g.stream("/filesystem.Filesystem/WatchDir", map[string]any{"path": dir, "recursive": true}, headerTimeout, "5000")
	if start, _ := s.next(); start["start"] == nil {
		t.Errorf("%v", start)
	}
	call("MakeDir", map[string]any{"path": dir + "/x/new"})
	if event, _ := s.next(); event["filesystem"].(map[string]any)["name"] != "x/new" {
		t.Errorf("%v", event)
	}
}
