package host_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/image"
)

// TestImportOverTheWire sends an archive of several messages, and a reference, from the
// control plane's client to the host's images.
func TestImportOverTheWire(t *testing.T) {
	b := newPortBench(t)
	content := strings.Repeat("0123456789abcdef", 100<<10)
	for _, c := range []struct {
		src     control.ImageSource
		content io.Reader
		bytes   string
	}{
		{control.ImageSource{}, strings.NewReader(content), content},
		{control.ImageSource{Reference: "python:3", Username: "u", Password: "p"}, nil, "python:3"},
	} {
		var seen []control.ImageProgress
		got, err := b.client.ImportImage(t.Context(), c.src, c.content, func(p control.ImageProgress) { seen = append(seen, p) })
		check(t, err)
		sum := fmt.Sprintf("%x", sha256.Sum256([]byte(c.bytes)))
		want := control.HostImage{
			Name: "oci-" + sum[:32], Digest: "sha256:" + sum, Env: []string{"A=b"}, User: c.src.Username, Workdir: "/w", Cmd: []string{"c"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("image (-want +got):\n%s", diff)
		}
		n := int64(len(c.bytes))
		if diff := cmp.Diff([]control.ImageProgress{{Stage: "unpack", Done: n, Total: n}}, seen); diff != "" {
			t.Errorf("progress (-want +got):\n%s", diff)
		}
	}
	none := func(control.ImageProgress) {}
	if _, err := b.client.ImportImage(t.Context(), control.ImageSource{Reference: "none"}, nil, none); fault.ReasonOf(err) != "image_not_found" {
		t.Errorf("of a missing image: got %v, want image_not_found", err)
	}
	broken := errors.New("the upload broke")
	_, err := b.client.ImportImage(t.Context(), control.ImageSource{}, io.MultiReader(strings.NewReader(content), brokenReader{broken}), none)
	if !errors.Is(err, broken) {
		t.Errorf("of content that breaks: got %v, want its error", err)
	}
}

// brokenReader is a reader that fails.
type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }

// TestDamagedImagesHideNoHost: a host describes itself although images have no description
// or a damaged one.
func TestDamagedImagesHideNoHost(t *testing.T) {
	b := newPortBench(t)
	dir := filepath.Join(b.dir, "store")
	store, err := image.Open(dir, hosttest.Log())
	check(t, err)
	digest := strings.Repeat("a", 64)
	for name, description := range map[string]string{"damaged": "{", "empty": "", "whole": `{"name": "whole", "digest": "` + digest + `"}`} {
		parent := filepath.Join(dir, "templates", name)
		check(t, os.MkdirAll(filepath.Join(parent, digest), 0o700))
		check(t, os.Symlink(digest, filepath.Join(parent, "current")))
		if name != "empty" {
			check(t, os.WriteFile(filepath.Join(parent, digest, "template.json"), []byte(description), 0o600))
		}
	}
	b.images = store
	b.restart()
	info, err := b.Info(t.Context())
	if want := []string{"whole"}; err != nil || !slices.Equal(info.Templates, want) {
		t.Errorf("templates of the host: got %q, %v, want %q", info.Templates, err, want)
	}
}

// vanishing are images of which one that is in use vanishes between its listing and its use.
type vanishing struct{ host.Images }

// Templates implements host.Images.
func (v vanishing) Templates() ([]image.Template, error) {
	all, err := v.Images.Templates()
	for i := range all {
		all[i].Imported = new(image.Imported)
	}
	return all, err
}

// Use implements host.Images.
func (vanishing) Use(t image.Template) error {
	if t.Imported != nil {
		return fault.New(fault.NotFound, "template_not_found", "another agent has removed it")
	}
	return nil
}

// Unused implements host.Images.
func (vanishing) Unused(time.Duration) ([]image.Template, error) {
	return []image.Template{{Name: image.ImportedPrefix + "unused"}}, nil
}

// Remove implements host.Images.
func (vanishing) Remove(context.Context, image.Template, time.Duration) (bool, error) {
	return true, nil
}

// TestVanishedImageStopsNoCollection: the collection goes on although another agent has
// removed an image.
func TestVanishedImageStopsNoCollection(t *testing.T) {
	c := newCore(t, fastTemp(t))
	c.images = vanishing{c.images}
	c.restart()
	c.create()
	removed, err := c.CollectGarbage(t.Context(), false)
	if want := image.ImportedPrefix + "unused"; err != nil || len(removed) != 1 || removed[0].ID != want {
		t.Errorf("collection: got %v, %v, want %s", removed, err, want)
	}
}
