package oci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// stream makes a tar of the headers; a regular file's content is text, or its name.
func stream(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range headers {
		content := h.Name
		if h.Typeflag == tar.TypeReg {
			if text, ok := h.PAXRecords["TEST.content"]; ok {
				content = text
				h.PAXRecords = nil
			}
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func reg(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644} }

func text(name, content string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, PAXRecords: map[string]string{"TEST.content": content}}
}

func folder(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}
}

func link(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}
}

func hard(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}
}

// layerOf returns a layer of an image, compressed with gzip.
func layerOf(t testing.TB, content []byte) v1.Layer {
	t.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
	check(t, err)
	return l
}

// imageOf returns an image for linux/amd64 with settings and layers.
func imageOf(t testing.TB, layers ...[]byte) v1.Image {
	t.Helper()
	i, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64", Config: v1.Config{
		Env: []string{"PATH=/bin", "A=b"}, User: "app", WorkingDir: "/srv", Entrypoint: []string{"/entry"}, Cmd: []string{"serve"},
		ExposedPorts: map[string]struct{}{"80/tcp": {}, "443/tcp": {}},
	}})
	check(t, err)
	for _, l := range layers {
		i, err = mutate.AppendLayers(i, layerOf(t, l))
		check(t, err)
	}
	return i
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serve starts a registry on loopback. The handler between may answer a request itself,
// and then reports true.
func serve(t testing.TB, between func(http.ResponseWriter, *http.Request) bool) string {
	t.Helper()
	next := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if between == nil || !between(w, r) {
			next.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func push(t testing.TB, at string, i v1.Image) string {
	t.Helper()
	ref, err := name.ParseReference(at)
	check(t, err)
	check(t, remote.Write(ref, i))
	return at
}

// listing permits a registry on loopback.
func listing(hosts ...string) Policy {
	var p Policy
	for _, h := range hosts {
		p.Registries = append(p.Registries, Registry{Host: h, Insecure: true})
	}
	return p
}

// job returns a Job in new directories.
func job(t testing.TB) Job {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	check(t, os.Mkdir(root, 0o755))
	return Job{Scratch: dir, Root: root, Room: func() error { return nil }, Progress: func(string, int64, int64) {}}
}

// apply applies layers to a new tree.
func apply(t testing.TB, l Limits, layers ...[]byte) (string, error) {
	t.Helper()
	j := job(t)
	tree, err := newTree(j.Root, l.withDefaults(), j.Room)
	check(t, err)
	defer tree.close()
	for _, layer := range layers {
		if err := tree.apply(bytes.NewReader(layer)); err != nil {
			return j.Root, err
		}
	}
	return j.Root, nil
}

// tell returns the content of a tree, one line for each name: links with their target,
// directories with a slash, files with their content.
func tell(t testing.TB, root string) string {
	t.Helper()
	var lines []string
	check(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name := strings.TrimPrefix(path, root+"/")
		switch {
		case d.IsDir():
			name += "/"
		case d.Type()&os.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			name += "->" + target
		case d.Type().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if string(b) != name {
				name += "=" + string(b)
			}
		default:
			name += "!" + d.Type().String()
		}
		lines = append(lines, name)
		return nil
	}))
	return strings.Join(lines, " ")
}

// wantReason fails unless err is a fault with the reason.
func wantReason(t testing.TB, what string, err error, reason string) {
	t.Helper()
	if fault.ReasonOf(err) != reason {
		t.Errorf("%s: got %v (reason %q), want the reason %q", what, err, fault.ReasonOf(err), reason)
	}
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(b)
	check(t, err)
	check(t, w.Close())
	return out.Bytes()
}
