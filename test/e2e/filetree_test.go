package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/client"
)

// testFileTree uses every operation on files in a real sandbox, whose own programs check
// the results.
func testFileTree(t *testing.T, s *server) {
	id := create(t, s.Client, small).ID
	ctx := t.Context()
	made, err := s.MakeDirectory(ctx, id, client.MakeDirectoryRequest{Path: "/srv/tree/sub", Mode: "0750", User: "nobody"})
	if check(t, err); made.Mode != "0750" || made.Owner != "nobody" || made.Type != client.FileTypeDirectory {
		t.Errorf("mkdir: got %+v", made)
	}
	sh(t, s.Client, id, `cd /srv/tree && echo one >sub/one && ln -s sub/one link && mkfifo pipe && chmod 4755 sub/one && touch "$(printf 'b\377')"`)
	var names []string
	for e, err := range s.Files(ctx, id, "/srv/tree", 2) {
		check(t, err)
		names = append(names, e.Path+" "+e.Type+" "+e.Mode)
	}
	want := []string{"/srv/tree/b\uFFFD file 0644", "/srv/tree/link symlink 0777", "/srv/tree/pipe fifo 0644", "/srv/tree/sub directory 0750", "/srv/tree/sub/one file 4755"}
	if !slices.Equal(names, want) {
		t.Errorf("list: got %q, want %q", names, want)
	}
	_, err = s.MoveFile(ctx, id, client.MoveFileRequest{From: "/srv/tree/link", To: "/srv/tree/sub/one"})
	if failure(t, err).Code != "path_exists" {
		t.Errorf("move over a file: got %v, want path_exists", err)
	}
	// /dev/shm is another file system.
	moved, err := s.MoveFile(ctx, id, client.MoveFileRequest{From: "/srv/tree/sub", To: "/dev/shm/new/sub"})
	if check(t, err); moved.Mode != "0750" || sh(t, s.Client, id, "cat /dev/shm/new/sub/one; ls -d /srv/tree/sub 2>/dev/null || echo gone") != "one\ngone" {
		t.Errorf("move: got %+v", moved)
	}
	if err := s.RemoveFile(ctx, id, "/dev/shm/new", false); failure(t, err).Code != "directory_not_empty" {
		t.Errorf("remove: got %v, want directory_not_empty", err)
	}
	check(t, s.RemoveFile(ctx, id, "/dev/shm/new", true))
	if _, err := s.StatFile(ctx, id, "/dev/shm/new", false); failure(t, err).Code != "file_not_found" {
		t.Errorf("stat of a removed directory: got %v, want file_not_found", err)
	}
	testRangeOf(t, s, id)
	testArchives(t, s, id)
	testWatch(t, s, id)
	testSigned(t, s, id)
}

func testRangeOf(t *testing.T, s *server, id string) {
	check(t, s.WriteFile(t.Context(), id, client.Upload{Path: "/srv/range"}, strings.NewReader("0123456789")))
	at := "/v1/sandboxes/" + id + "/files?path=/srv/range"
	part := call(t, s.Client, "GET", at, nil, "Range", "bytes=-3")
	if part.status != 206 || string(part.body) != "789" || part.header.Get("Content-Range") != "bytes 7-9/10" {
		t.Errorf("the last bytes: got %d %q %v", part.status, part.body, part.header)
	}
	tag := part.header.Get("ETag")
	check(t, s.WriteFile(t.Context(), id, client.Upload{Path: "/srv/range"}, strings.NewReader("9876543210")))
	if whole := call(t, s.Client, "GET", at, nil, "Range", "bytes=1-2", "If-Range", tag); whole.status != 200 || string(whole.body) != "9876543210" {
		t.Errorf("after a change: got %d %q, want the whole file", whole.status, whole.body)
	}
	call(t, s.Client, "GET", at, nil, "Range", "bytes=10-").wantError(t, 416, "range_not_satisfiable")
}

// testArchives copies a directory in and out with the command line, and sends an
// archive that leads out of its directory.
func testArchives(t *testing.T, s *server, id string) {
	local := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(local, "d", "empty"), 0o755))
	check(t, os.WriteFile(filepath.Join(local, "d", "run"), bytes.Repeat([]byte("x"), 3<<20), 0o750))
	check(t, os.Symlink("run", filepath.Join(local, "d", "link")))
	copyFiles(t, s, filepath.Join(local, "d"), id+":/srv")
	if got := sh(t, s.Client, id, "cd /srv/d && stat -c '%n %a' run empty && stat -c %s run && readlink link"); got != "run 750\nempty 755\n3145728\nrun" {
		t.Errorf("in the sandbox: got %q", got)
	}
	copyFiles(t, s, id+":/srv/d", filepath.Join(local, "back"))
	if out, err := exec.Command("diff", "-r", "--no-dereference", filepath.Join(local, "d"), filepath.Join(local, "back")).CombinedOutput(); err != nil {
		t.Errorf("the copy differs: %s", out)
	}
	var hostile bytes.Buffer
	w := tar.NewWriter(&hostile)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "/etc"}, {Typeflag: tar.TypeReg, Name: "l/evil", Mode: 0o644},
	} {
		check(t, w.WriteHeader(&h))
	}
	check(t, w.Close())
	err := s.WriteArchive(t.Context(), id, "/srv/hostile", "", &hostile)
	if failure(t, err).Code != "invalid_archive" || sh(t, s.Client, id, "ls /etc/evil 2>/dev/null || echo none") != "none" {
		t.Errorf("got %v, want invalid_archive and nothing in /etc", err)
	}
	err = s.WriteArchive(t.Context(), id, "/srv/hostile", "", bytes.NewReader(hostile.Bytes()))
	if failure(t, err).Code != "archive_incomplete" {
		t.Errorf("of an empty body: got %v, want archive_incomplete", err)
	}
}

// copyFiles runs wrenn cp -r.
func copyFiles(t *testing.T, s *server, from, to string) {
	t.Helper()
	cmd := exec.Command(binary(t), "cp", "-r", from, to)
	cmd.Env = append(os.Environ(), "WRENN_URL="+s.BaseURL, "WRENN_API_KEY="+s.APIKey)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cp -r %s %s: %v: %s", from, to, err, out)
	}
}

func testWatch(t *testing.T, s *server, id string) {
	sh(t, s.Client, id, "mkdir -p /srv/watched")
	w, err := s.WatchFiles(t.Context(), id, "/srv/watched", true)
	check(t, err)
	defer w.Close()
	await := func(want client.FileChange) {
		t.Helper()
		for {
			got, err := w.Next()
			check(t, err)
			if got == want {
				return
			}
		}
	}
	sh(t, s.Client, id, "mkdir /srv/watched/d && echo x >/srv/watched/d/f")
	await(client.FileChange{Type: client.FileCreated, Path: "/srv/watched/d"})
	await(client.FileChange{Type: client.FileCreated, Path: "/srv/watched/d/f"})
	sh(t, s.Client, id, "rm -r /srv/watched")
	await(client.FileChange{Type: client.FileRemoved, Path: "/srv/watched"})
	if _, err := w.Next(); failure(t, err).Code != "file_not_found" {
		t.Errorf("the watch of a removed directory ended with %v, want file_not_found", err)
	}
}

// testSigned reads and writes files without an API key.
func testSigned(t *testing.T, s *server, id string) {
	do := func(method, url, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
		check(t, err)
		resp, err := http.DefaultClient.Do(req)
		check(t, err)
		answer, err := io.ReadAll(resp.Body)
		check(t, errors.Join(err, resp.Body.Close()))
		return resp.StatusCode, string(answer)
	}
	up, err := s.SignFile(t.Context(), id, client.SignFileRequest{Path: "/srv/signed", Operation: client.SignWrite, MaxBytes: 5})
	check(t, err)
	if status, answer := do(up.Method, up.URL, "hello"); status != 204 {
		t.Errorf("write: got %d %s, want 204", status, answer)
	}
	if status, answer := do(up.Method, up.URL, "hello!"); status != 413 {
		t.Errorf("write of too much: got %d %s, want 413", status, answer)
	}
	down, err := s.SignFile(t.Context(), id, client.SignFileRequest{Path: "/srv/signed", Operation: client.SignRead})
	check(t, err)
	if status, answer := do(down.Method, down.URL, ""); status != 200 || answer != "hello" {
		t.Errorf("read: got %d %q, want hello", status, answer)
	}
	if status, answer := do("GET", strings.Replace(down.URL, "signed", "range", 1), ""); status != 401 || !strings.Contains(answer, "invalid_signature") {
		t.Errorf("read of another path: got %d %s, want 401", status, answer)
	}
}
