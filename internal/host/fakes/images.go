package fakes

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/oci"
)

// Images implements host.Images with one template, "minimal", whose image is an
// empty file.
type Images struct{ template image.Template }

// NewImages returns the images in dir, which it makes.
func NewImages(dir string) (*Images, error) {
	path := filepath.Join(dir, "minimal.erofs")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return nil, err
	}
	return &Images{image.Template{Name: "minimal", Digest: "sha256:fake", CreatedAt: time.Unix(0, 0), Path: path}}, nil
}

// Template implements host.Images.
func (i *Images) Template(name string) (image.Template, error) {
	if name != i.template.Name {
		return image.Template{}, fault.New(fault.NotFound, "template_not_found", "there is no template %q", name)
	}
	return i.template, nil
}

// Version implements host.Images.
func (i *Images) Version(digest string) (image.Template, error) {
	if digest != i.template.Digest {
		return image.Template{}, fault.New(fault.NotFound, "template_not_found", "there is no template with the digest %q", digest)
	}
	return i.template, nil
}

// Templates implements host.Images.
func (i *Images) Templates() ([]image.Template, error) { return []image.Template{i.template}, nil }

// Import implements host.Images. It describes an image whose digest is that of the
// reference or the archive, and keeps nothing. The reference "none" is not found.
func (i *Images) Import(_ context.Context, src image.Source, progress image.Progress) (image.Template, error) {
	content := []byte(src.Remote.Reference)
	if src.Content != nil {
		var err error
		if content, err = io.ReadAll(src.Content); err != nil {
			return image.Template{}, err
		}
	}
	if src.Remote.Reference == "none" {
		return image.Template{}, fault.New(fault.NotFound, "image_not_found", "there is no such image")
	}
	progress(image.Event{Stage: "unpack", Done: int64(len(content)), Total: int64(len(content))})
	sum := fmt.Sprintf("%x", sha256.Sum256(content))
	return image.Template{Name: image.ImportedPrefix + sum[:32], Imported: &image.Imported{
		Digest: "sha256:" + sum, Settings: oci.Settings{Env: []string{"A=b"}, User: src.Remote.Username, Workdir: "/w", Cmd: []string{"c"}},
	}}, nil
}

// Use implements host.Images.
func (i *Images) Use(image.Template) error { return nil }

// Unused implements host.Images.
func (i *Images) Unused(time.Duration) ([]image.Template, error) { return nil, nil }

// Remove implements host.Images.
func (i *Images) Remove(context.Context, image.Template, time.Duration) (bool, error) {
	return false, nil
}
