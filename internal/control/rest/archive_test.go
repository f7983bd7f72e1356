package rest

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

func zipped(t *testing.T, content string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestArchiveUpload(t *testing.T) {
	w := newWorld(t)
	tar := w.newFiles() + "/tar?path=/data/&user=u"
	for _, headers := range [][]string{{"Content-Type: application/x-tar"}, {"Content-Encoding: gzip", "Content-Type: application/gzip"}, nil} {
		body := "the archive"
		if len(headers) == 2 {
			body = zipped(t, body)
		}
		w.want(w.call("POST", tar, body, headers...), http.StatusNoContent)
		got := w.fake.files["/data/"]
		if want := (control.WriteFile{Path: "/data/", User: "u", Archive: true}); got.where != want || string(got.data) != "the archive" {
			t.Errorf("%v: got %+v with %q, want %+v", headers, got.where, got.data, want)
		}
		delete(w.fake.files, "/data/")
	}
	whole := zipped(t, strings.Repeat("the archive", 100))
	for body, code := range map[string]string{
		"this is no gzip": "invalid_archive", "": "archive_incomplete", whole[:len(whole)-9]: "archive_incomplete",
		whole[:len(whole)-8] + "12345678": "invalid_archive",
	} {
		a := w.want(w.call("POST", tar, body, "Content-Encoding: gzip"), http.StatusBadRequest)
		if got := a.fault(w).Code; got != code {
			t.Errorf("%q: got %s, want %s", body, got, code)
		}
	}
	w.want(w.call("POST", tar, "x", "Content-Encoding: br"), http.StatusUnsupportedMediaType)
	w.want(w.call("POST", tar, "x", "Content-Type: multipart/form-data; boundary=x"), http.StatusUnsupportedMediaType)
	if len(w.fake.files) != 0 {
		t.Errorf("got %v, want nothing of a refused archive", w.fake.files)
	}
}

func TestArchiveDownload(t *testing.T) {
	w := newWorld(t)
	tar := w.newFiles() + "/tar?path=/special"
	content := strings.Repeat("the archive", 1000)
	var failure error
	w.fake.open = func() *control.File {
		body := io.Reader(strings.NewReader(content))
		if failure != nil {
			body = io.MultiReader(strings.NewReader(content), brokenReader{failure})
		}
		return &control.File{Name: "special", Size: -1, Body: io.NopCloser(body)}
	}
	plain := w.want(w.call("GET", tar, "", "Accept-Encoding: gzip;q=0, br"), http.StatusOK)
	if string(plain.body) != content || plain.Header.Get("Content-Encoding") != "" || !strings.Contains(plain.Header.Get("Content-Disposition"), `"special.tar"`) {
		t.Errorf("got %d bytes with %v, want the archive", len(plain.body), plain.Header)
	}
	zip := w.want(w.call("GET", tar, "", "Accept-Encoding: br, gzip;q=0.5"), http.StatusOK)
	z, err := gzip.NewReader(bytes.NewReader(zip.body))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(z); err != nil || string(got) != content || len(zip.body) >= len(content) {
		t.Errorf("compressed: got %d bytes, %v; want the archive", len(got), err)
	}
	failure = errors.New("the guest broke off")
	for _, coding := range []string{"identity", "gzip"} {
		req, err := http.NewRequest("GET", w.url+tar, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", coding)
		resp, err := client.Do(req)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		if err == nil {
			t.Errorf("%s: a download that breaks off looks complete", coding)
		}
	}
}

// TestArchivesOfGuestsEnd: an archive that exceeds the limit is cut with an error, at
// any size of the reads.
func TestArchivesOfGuestsEnd(t *testing.T) {
	for _, c := range []struct {
		size int
		want string
	}{{4096, ""}, {4097, "archive_too_large"}, {1 << 20, "archive_too_large"}} {
		var out bytes.Buffer
		err := sendArchive(&out, iotest.HalfReader(atMost(strings.NewReader(strings.Repeat("a", c.size)), 4096)), false)
		if fault.ReasonOf(err) != c.want || out.Len() > 4096 {
			t.Errorf("%d bytes with a limit of 4096: got %d bytes and %v, want %q", c.size, out.Len(), err, c.want)
		}
	}
}

type brokenReader struct{ err error }

func (b brokenReader) Read([]byte) (int, error) { return 0, b.err }
