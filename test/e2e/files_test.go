package e2e

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/url"
	"testing"

	"github.com/wrenn-dev/wrenn/client"
)

func testFiles(t *testing.T, s *server) {
	sb := create(t, s.Client, small)
	path := "/v1/sandboxes/" + sb.ID
	content := make([]byte, 3<<20+17)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(content) // it never fails

	// Parent directories are created, and an existing file is replaced by a
	// longer or shorter one.
	for _, data := range [][]byte{content, []byte("short"), {}} {
		body, kind := form(t, "/srv/a/b/file", data)
		if a := call(t, s.Client, "POST", path+"/files/write", body, "Content-Type", kind); a.status != 204 || len(a.body) > 0 {
			t.Fatalf("upload answered %d %s", a.status, a.body)
		}
		a := call(t, s.Client, "POST", path+"/files/read", `{"path":"/srv/a/b/file"}`)
		if a.status != 200 || !bytes.Equal(a.body, data) || a.header.Get("Content-Type") != "application/octet-stream" {
			t.Fatalf("download of %d bytes answered %d with %d, %v", len(data), a.status, len(a.body), a.header)
		}
	}
	call(t, s.Client, "POST", path+"/files/read", `{"path":"/srv/a/none"}`).wantError(t, 404, "file_not_found")
	call(t, s.Client, "POST", path+"/files/read", `{"path":"/srv/a"}`).wantError(t, 400, "is_directory")
	body, kind := form(t, "/srv/a", []byte("x"))
	call(t, s.Client, "POST", path+"/files/write", body, "Content-Type", kind).wantError(t, 400, "is_directory")
	body, kind = form(t, "/etc/passwd/x", []byte("x"))
	call(t, s.Client, "POST", path+"/files/write", body, "Content-Type", kind).wantError(t, 400, "not_a_directory")

	owned := client.Upload{Path: "/tmp/with space ü", User: "nobody", Mode: 0o750}
	check(t, s.WriteFile(t.Context(), sb.ID, owned, bytes.NewReader(content)))
	if got := sh(t, s.Client, sb.ID, `stat -c '%U %a %s' '/tmp/with space ü'`); got != "nobody 750 3145745" {
		t.Errorf("the file is %s", got)
	}
	if a := call(t, s.Client, "HEAD", path+"/files?path="+url.QueryEscape(owned.Path), nil); a.status != 200 || a.header.Get("Content-Length") != "3145745" {
		t.Errorf("HEAD answered %d %v", a.status, a.header)
	}
	readBack(t, s, sb.ID, owned.Path, content)
	f, err := s.ReadFile(t.Context(), sb.ID, "/proc/version", "")
	check(t, err)
	defer f.Body.Close()
	if text, err := io.ReadAll(f.Body); err != nil || !bytes.HasPrefix(text, []byte("Linux version")) {
		t.Errorf("/proc/version is %q, %v", text, err)
	}
}

func readBack(t *testing.T, s *server, id, path string, want []byte) {
	t.Helper()
	f, err := s.ReadFile(t.Context(), id, path, "")
	check(t, err)
	defer f.Body.Close()
	got, err := io.ReadAll(f.Body)
	check(t, err)
	if !bytes.Equal(got, want) || f.Size != int64(len(want)) {
		t.Errorf("%s has %d bytes (announced %d), want the %d that were written", path, len(got), f.Size, len(want))
	}
}
