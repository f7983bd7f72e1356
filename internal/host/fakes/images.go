package fakes

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/image"
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

// Import implements host.Images. The fake imports nothing.
func (i *Images) Import(context.Context, image.Source, image.Progress) (image.Template, error) {
	return image.Template{}, fault.New(fault.Unsupported, "image_format", "the fake imports no images")
}

// Use implements host.Images.
func (i *Images) Use(image.Template) error { return nil }

// Unused implements host.Images.
func (i *Images) Unused(time.Duration) ([]image.Template, error) { return nil, nil }

// Remove implements host.Images.
func (i *Images) Remove(context.Context, image.Template, time.Duration) (bool, error) {
	return false, nil
}
