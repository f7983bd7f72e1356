package host_test

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// bareProgram prints its user, a file of the image and its argument.
const bareProgram = `package main

import (
	"os"
	"strconv"
)

func main() {
	data, err := os.ReadFile("/data")
	if err != nil {
		panic(err)
	}
	if err := os.WriteFile("/tmp/written", data, 0o600); err != nil {
		panic(err)
	}
	os.Stdout.WriteString(strconv.Itoa(os.Getuid()) + " " + string(data) + " " + os.Args[1])
}
`

// bareImage is an archive of an image that has one static program and one file: no
// shell, no users, none of the usual directories.
func bareImage(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "hello")
	check(t, os.WriteFile(source, []byte(bareProgram), 0o600))
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the program of the image: %v: %s", err, out)
	}
	binary, err := os.ReadFile(program)
	check(t, err)
	img := v1.Image(empty.Image)
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{OS: "linux", Architecture: "amd64", Config: v1.Config{Env: []string{"A=b"}, Cmd: []string{"/hello"}}})
	check(t, err)
	for _, files := range []map[string]string{{"hello": string(binary), "data": "old"}, {"data": "new"}} {
		var layer bytes.Buffer
		w := tar.NewWriter(&layer)
		for name, content := range files {
			check(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(content))}))
			_, err := io.WriteString(w, content)
			check(t, err)
		}
		check(t, w.Close())
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
		check(t, err)
		img, err = mutate.AppendLayers(img, l)
		check(t, err)
	}
	tag, err := name.NewTag("bare:1")
	check(t, err)
	var archive bytes.Buffer
	check(t, tarball.Write(tag, img, &archive))
	return archive.Bytes()
}

// TestImportedImages boots a sandbox from an imported image and collects the image once
// nothing refers to it.
func TestImportedImages(t *testing.T) { onEachRuntime(t, importedImages) }

func importedImages(t *testing.T, r sandbox.Runtime) {
	hosttest.Root(t)
	b := unopenedBench(t, r, "img")
	store, err := image.Open(filepath.Join(b.dir, "images"), hosttest.Log())
	check(t, err)
	b.images = store
	b.templates = ""
	b.configure = func(cfg *host.Config) { cfg.ImageAge = time.Nanosecond }
	b.open()
	t.Cleanup(b.end)
	archive := bareImage(t)
	var stages []string
	load := func() host.ImportedImage {
		t.Helper()
		stages = nil
		made, err := b.ImportImage(t.Context(), host.ImageSource{Content: bytes.NewReader(archive)}, func(e host.ImportEvent) {
			stages = append(stages, e.Stage)
		})
		check(t, err)
		return made
	}
	made := load()
	if !strings.HasPrefix(made.Name, "oci-") || !slices.Equal(made.Env, []string{"A=b"}) || !slices.Equal(made.Cmd, []string{"/hello"}) {
		t.Errorf("got %+v, want the image's settings", made)
	}
	if again := load(); again.Name != made.Name || slices.Contains(stages, "unpack") {
		t.Errorf("a second import made %s by %v, want %s without unpacking", again.Name, stages, made.Name)
	}
	info, err := b.Info(t.Context())
	check(t, err)
	if !slices.Contains(info.Templates, made.Name) {
		t.Errorf("the host reports %v, want %s among them", info.Templates, made.Name)
	}
	spec, ref := smallSpec, newRef()
	spec.Template = made.Name
	_, err = b.Create(t.Context(), ref, spec)
	check(t, err)
	var out strings.Builder
	err = b.Exec(t.Context(), ref, host.Exec{
		Start: &process.StartRequest{Process: &process.ProcessConfig{Cmd: "/hello", Args: []string{"there"}}, Stdin: new(bool)},
		User:  "root", Timeout: hosttest.Patience(t, scriptLimit),
	}, func(e *process.ProcessEvent) error {
		out.Write(e.GetData().GetStdout())
		out.Write(e.GetData().GetStderr())
		return nil
	})
	if err != nil || out.String() != "0 new there" {
		t.Errorf("the program of the image said %q (%v), want its user, file and argument", out.String(), err)
	}
	if ids := b.imageGarbage(true); len(ids) != 0 {
		t.Errorf("%v of a running sandbox is garbage", ids)
	}
	check(t, b.Destroy(t.Context(), ref, ""))
	for _, dryRun := range []bool{true, false} {
		if ids := b.imageGarbage(dryRun); !slices.Equal(ids, []string{made.Name}) {
			t.Errorf("a collection (dry run %t) found %v, want %s", dryRun, ids, made.Name)
		}
	}
	if _, err := store.Template(made.Name); err == nil {
		t.Error("the image is still a template")
	}
	if left, _ := filepath.Glob(filepath.Join(b.dir, "templates", "*")); len(left) != 0 {
		t.Errorf("the template snapshots %v of the image remain", left)
	}
}

// imageGarbage collects garbage and returns the images among it.
func (b *bench) imageGarbage(dryRun bool) (ids []string) {
	b.t.Helper()
	found, err := b.CollectGarbage(context.Background(), dryRun)
	check(b.t, err)
	for _, g := range found {
		if g.Kind == "image" {
			ids = append(ids, g.ID)
		}
	}
	return ids
}
