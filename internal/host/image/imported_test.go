package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/oci"
)

// zeros are as many bytes as are read.
type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// file is a file of size zeros.
func file(name string, size int64) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size}
}

// tinyImage is an image of one layer with these entries.
func tinyImage(t *testing.T, headers ...tar.Header) v1.Image {
	t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(w, zeros{}, h.Size); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64", Config: v1.Config{User: "7", Env: []string{"A=b"}}})
	if err == nil {
		img, err = mutate.AppendLayers(img, l)
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// importBench is a store that imports from a registry on loopback, which counts the
// layers that it gives.
func importBench(t *testing.T) (s *Store, at string, layers *atomic.Int64) {
	t.Helper()
	if _, err := exec.LookPath("mkfs.erofs"); err != nil || os.Geteuid() != 0 {
		t.Skip("imports need root and mkfs.erofs")
	}
	layers = new(atomic.Int64)
	next := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			layers.Add(1)
		}
		next.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	at = strings.TrimPrefix(server.URL, "http://")
	s = openStore(t, WithRegistries(oci.Policy{Registries: []oci.Registry{{Host: at, Insecure: true}}}))
	return s, at, layers
}

func openStore(t *testing.T, options ...Option) *Store {
	t.Helper()
	s, err := Open(t.TempDir(), slog.New(slog.DiscardHandler), options...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func pushTo(t *testing.T, at string, img v1.Image) {
	t.Helper()
	ref, err := name.ParseReference(at)
	if err == nil {
		err = remote.Write(ref, img)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestImport imports an image twice at once and once more: one import fetches it.
func TestImport(t *testing.T) {
	s, at, blobs := importBench(t)
	pushTo(t, at+"/a/b:1", tinyImage(t, tar.Header{Typeflag: tar.TypeDir, Name: "x/", Mode: 0o755}))
	var wg sync.WaitGroup
	var got [3]Template
	load := func(n int) {
		var err error
		if got[n], err = s.Import(t.Context(), Source{Remote: oci.Remote{Reference: at + "/a/b:1"}}, Quiet); err != nil {
			t.Errorf("import %d: %v", n, err)
		}
	}
	for n := range 2 {
		wg.Go(func() { load(n) })
	}
	wg.Wait()
	load(2)
	first := got[0]
	if first.Digest == "" || got[1].Digest != first.Digest || got[2].Digest != first.Digest || !strings.HasPrefix(first.Name, ImportedPrefix) {
		t.Fatalf("got %+v, want one template thrice", got)
	}
	// Each import reads the settings, and one the layer.
	if n := blobs.Load(); n != 4 {
		t.Errorf("the registry gave %d blobs, want 3 times the settings and one layer", n)
	}
	if i := first.Imported; i == nil || i.User != "7" || !slices.Equal(i.Env, []string{"A=b"}) || !strings.HasSuffix(i.Reference, "/a/b:1") {
		t.Errorf("the template describes the image as %+v", first.Imported)
	}
	// The same image from elsewhere is the same file.
	other, elsewhere, _ := importBench(t)
	pushTo(t, elsewhere+"/c/d:2", tinyImage(t, tar.Header{Typeflag: tar.TypeDir, Name: "x/", Mode: 0o755}))
	again, err := other.Import(t.Context(), Source{Remote: oci.Remote{Reference: elsewhere + "/c/d:2"}}, Quiet)
	if err != nil || again.Digest != first.Digest || again.Name != first.Name {
		t.Errorf("another store made %s of the image with the digest %s (%v), want %s with %s", again.Name, again.Digest, err, first.Name, first.Digest)
	}
	if left, _ := os.ReadDir(filepath.Join(s.dir, "tmp")); len(left) != 0 {
		t.Errorf("the build left %v", left)
	}
	// A damaged one is made again.
	if err := os.Truncate(first.Path, 1); err != nil {
		t.Fatal(err)
	}
	load(0)
	if got[0].Digest != first.Digest || !got[0].intact() {
		t.Errorf("after damage: got %+v, want the image again", got[0])
	}
}

// TestFailedImportsLeaveNothing: neither a template nor files of the build remain.
func TestFailedImportsLeaveNothing(t *testing.T) {
	s, at, _ := importBench(t)
	pushTo(t, at+"/a/evil:1", tinyImage(t, tar.Header{Typeflag: tar.TypeReg, Name: "../evil", Mode: 0o644}))
	for reference, reason := range map[string]string{at + "/a/evil:1": "image_damaged", at + "/a/none:1": "image_not_found"} {
		if _, err := s.Import(t.Context(), Source{Remote: oci.Remote{Reference: reference}}, Quiet); fault.ReasonOf(err) != reason {
			t.Errorf("%s: got %v, want %s", reference, err, reason)
		}
	}
	if _, err := s.Import(t.Context(), Source{Content: strings.NewReader("no archive")}, Quiet); fault.ReasonOf(err) != "image_damaged" {
		t.Errorf("no archive: got %v, want image_damaged", err)
	}
	if left, _ := os.ReadDir(filepath.Join(s.dir, "tmp")); len(left) != 0 {
		t.Errorf("the builds left %v", left)
	}
	if all, err := s.Templates(); err != nil || len(all) != 0 {
		t.Errorf("there are the templates %v (%v), want none", all, err)
	}
}

// TestImportNeedsRoomForItsImage: an image that is large only when it is unpacked is not
// packed without room for the result.
func TestImportNeedsRoomForItsImage(t *testing.T) {
	s, at, _ := importBench(t)
	const size = 24 << 20
	pushTo(t, at+"/a/zeros:1", tinyImage(t, file("zeros", size)))
	source := Source{Remote: oci.Remote{Reference: at + "/a/zeros:1"}}
	s.free = func(string) (uint64, error) { return importReserve + size/2, nil }
	if _, err := s.Import(t.Context(), source, Quiet); fault.ReasonOf(err) != "disk_full" {
		t.Errorf("without room for the image: got %v, want disk_full", err)
	}
	if left, _ := os.ReadDir(filepath.Join(s.dir, "tmp")); len(left) != 0 {
		t.Errorf("the build left %v", left)
	}
	s.free = func(string) (uint64, error) { return importReserve + 2*size, nil }
	made, err := s.Import(t.Context(), source, Quiet)
	if err != nil {
		t.Fatalf("with room for the image: %v", err)
	}
	// The estimate is that of the real image.
	if made.SizeBytes < size || made.SizeBytes > size+1<<20 {
		t.Errorf("the image has %d bytes, want about %d", made.SizeBytes, size)
	}
}

// TestTreesAreMeasured: the measure of a tree is about the size of its image.
func TestTreesAreMeasured(t *testing.T) {
	s, _, _ := importBench(t)
	work := t.TempDir()
	root := filepath.Join(work, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for n := range 500 {
		dir := filepath.Join(root, fmt.Sprint(n))
		err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "a"), make([]byte, 10*n), 0o644),
			os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")), os.Symlink("a", filepath.Join(dir, "c")))
		if err != nil {
			t.Fatal(err)
		}
	}
	measured, err := erofsBytes(root)
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(work, "image")
	if err := s.packErofs(t.Context(), root, image, "0", strings.Repeat("0", 64), 0, Quiet); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(image)
	if err != nil {
		t.Fatal(err)
	}
	if size := uint64(st.Size()); measured < size-size/20 || measured > size+size/20 {
		t.Errorf("the tree measures %d bytes, and its image has %d", measured, size)
	}
}

// TestFurnishedTrees: every tree gets the places that guests need, and no link of the
// image leads the preparation elsewhere.
func TestFurnishedTrees(t *testing.T) {
	outside := t.TempDir()
	secret := filepath.Join(outside, "machine-id")
	if err := os.WriteFile(secret, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, links := range map[string]map[string]string{
		"empty": nil,
		"links": {"etc": outside, "proc": outside, "dev": outside, "tmp": "/var/tmp", "run": "../.."},
		"files": {"etc/resolv.conf": "../run/stub", "etc/machine-id": secret, "etc/hosts": secret},
	} {
		dir := t.TempDir()
		for link, target := range links {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, link)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
				t.Fatal(err)
			}
		}
		if err := furnish(dir); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, sub := range []string{"dev", "proc", "sys", "run", "etc", "tmp"} {
			if st, err := os.Lstat(filepath.Join(dir, sub)); err != nil || !st.IsDir() {
				t.Errorf("%s: /%s is no directory (%v)", name, sub, err)
			}
		}
		for _, file := range []string{"etc/machine-id", "etc/resolv.conf"} {
			if st, err := os.Lstat(filepath.Join(dir, file)); err != nil || !st.Mode().IsRegular() || st.Size() != 0 {
				t.Errorf("%s: /%s is no empty file (%v)", name, file, err)
			}
		}
		if st, err := os.Stat(filepath.Join(dir, "tmp")); err != nil || st.Mode().Perm() != 0o777 || st.Mode()&os.ModeSticky == 0 {
			t.Errorf("%s: /tmp has the mode %v (%v)", name, st.Mode(), err)
		}
	}
	if entries, _ := os.ReadDir(outside); len(entries) != 1 {
		t.Errorf("outside there are %v, want the one file", entries)
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "s" {
		t.Errorf("the file outside holds %q (%v)", b, err)
	}
}

// TestUnusedImages: an image is removed after its time without a use, and not before.
func TestUnusedImages(t *testing.T) {
	s, at, _ := importBench(t)
	pushTo(t, at+"/a/b:1", tinyImage(t))
	made, err := s.Import(t.Context(), Source{Remote: oci.Remote{Reference: at + "/a/b:1"}}, Quiet)
	if err != nil {
		t.Fatal(err)
	}
	recipe := Template{Name: "minimal"}
	if err := s.Use(recipe); err != nil {
		t.Errorf("use of another template: %v", err)
	}
	if _, err := s.Remove(t.Context(), recipe, 0); err == nil {
		t.Error("removing a template of a recipe succeeded")
	}
	unused := func(age time.Duration) int {
		t.Helper()
		all, err := s.Unused(age)
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	if n := unused(time.Hour); n != 0 {
		t.Errorf("%d images are unused just after the import", n)
	}
	if removed, err := s.Remove(t.Context(), made, time.Hour); removed || err != nil {
		t.Errorf("removing an image in use: got %t, %v", removed, err)
	}
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(filepath.Join(s.dir, "templates", made.Name, "used"), old, old); err != nil {
		t.Fatal(err)
	}
	if n := unused(time.Hour); n != 1 {
		t.Errorf("%d images are unused after two hours, want 1", n)
	}
	if removed, err := s.Remove(t.Context(), made, time.Hour); !removed || err != nil {
		t.Errorf("removing an unused image: got %t, %v", removed, err)
	}
	if _, err := s.Template(made.Name); !fault.Is(err, fault.NotFound) {
		t.Errorf("after the removal: got %v, want NotFound", err)
	}
	// A removal that was cut off is completed.
	remains := filepath.Join(s.dir, "templates", made.Name)
	if err := errors.Join(os.Mkdir(remains, 0o755), os.Chtimes(remains, old, old)); err != nil {
		t.Fatal(err)
	}
	all, err := s.Unused(time.Hour)
	if err != nil || len(all) != 1 {
		t.Fatalf("with remains: got %v, %v, want one image", all, err)
	}
	if removed, err := s.Remove(t.Context(), all[0], time.Hour); !removed || err != nil {
		t.Errorf("removing remains: got %t, %v", removed, err)
	}
	if left, _ := os.ReadDir(filepath.Dir(remains)); len(left) != 0 {
		t.Errorf("there are still %v", left)
	}
}
