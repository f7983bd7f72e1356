package oci

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

// Image is an image whose manifest and settings have been read and checked, and whose
// layers have not been fetched. The caller closes it.
type Image struct {
	// Digest is that of the manifest. An archive of "docker save" that has none is
	// identified by the digest of its settings, which Docker calls the image's id.
	Digest string
	// Reference is the place from which it is fetched; empty for an archive.
	Reference string
	Settings  Settings

	source source
	limits Limits
	layers []layer
	close  func()
}

// Settings are the part of an image's configuration that concerns its programs, as the
// author wrote it.
type Settings struct {
	Env        []string `json:"env,omitempty"`
	User       string   `json:"user,omitempty"`
	Workdir    string   `json:"workdir,omitempty"`
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	Ports      []string `json:"ports,omitempty"`
}

// layer is one layer of an image.
type layer struct {
	blob v1.Descriptor // of the compressed bytes
	// diff is the digest of the uncompressed bytes.
	diff v1.Hash
}

// source reads the blobs of an image, which its caller checks.
type source interface {
	manifest(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
	blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
	layer(ctx context.Context, l layer) (io.ReadCloser, error)
}

// Close releases connections. It does not remove files.
func (i *Image) Close() { i.close() }

// Size returns the size of all layers as they are stored, in bytes.
func (i *Image) Size() int64 {
	var sum int64
	for _, l := range i.layers {
		sum += l.blob.Size
	}
	return sum
}

// readBlob returns a blob of at most limit bytes that agrees with its descriptor.
func readBlob(ctx context.Context, open func(context.Context, v1.Descriptor) (io.ReadCloser, error), d v1.Descriptor, limit int64) ([]byte, error) {
	if d.Size < 0 || d.Size > limit {
		return nil, tooLarge("a manifest or its settings have %d bytes, more than %d", d.Size, limit)
	}
	if d.Data != nil {
		open = func(context.Context, v1.Descriptor) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(d.Data)), nil
		}
	}
	r, err := open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, d.Size+1))
	if err != nil && int64(len(b)) < d.Size {
		return nil, err
	}
	if got, bad := digest(d.Digest.Algorithm, b); bad != nil || got != d.Digest || int64(len(b)) != d.Size {
		return nil, damaged(errors.Join(err, bad), "the content of %s is another one", d.Digest)
	}
	return b, err
}

// digest returns the digest of b by one of the algorithms of the image specification.
func digest(algorithm string, b []byte) (v1.Hash, error) {
	h, err := v1.Hasher(algorithm)
	if err != nil {
		return v1.Hash{}, err
	}
	_, _ = h.Write(b)
	return v1.Hash{Algorithm: algorithm, Hex: hex.EncodeToString(h.Sum(nil))}, nil
}

// document is a manifest or an index; which of them is decided by its content.
type document struct {
	Manifests []v1.Descriptor `json:"manifests"`
	Config    *v1.Descriptor  `json:"config"`
	Layers    []v1.Descriptor `json:"layers"`
	// FSLayers is of the form of 2014, without digests of the content.
	FSLayers []any `json:"fsLayers"`
}

// resolve reads the image that raw, a manifest or index with the digest of d, leads to.
func resolve(ctx context.Context, s source, l Limits, d v1.Descriptor, raw []byte) (*Image, error) {
	for depth := 0; ; depth++ {
		var doc document
		if err := json.Unmarshal(raw, &doc); err != nil {
			return nil, damaged(err, "its manifest is no JSON document")
		}
		switch {
		case len(doc.FSLayers) > 0:
			return nil, fault.New(fault.Unsupported, "image_format", "the image has a manifest of schema version 1, which registries gave up; push it again with a current tool")
		case doc.Manifests != nil && (doc.Config != nil || doc.Layers != nil):
			return nil, damaged(nil, "its manifest is also an index")
		case doc.Config != nil:
			return readImage(ctx, s, l, d.Digest, doc)
		case doc.Manifests == nil:
			return nil, damaged(nil, "its manifest names no settings")
		case depth == maxIndexDepth:
			return nil, damaged(nil, "its indexes are nested deeper than %d levels", maxIndexDepth)
		}
		next, err := forThisPlatform(doc.Manifests)
		if err != nil {
			return nil, err
		}
		d = next
		if raw, err = readBlob(ctx, s.manifest, d, l.Manifest); err != nil {
			return nil, err
		}
	}
}

// forThisPlatform returns the entry of an index for Linux on x86-64. An entry without a
// platform counts as one if no other is there.
func forThisPlatform(all []v1.Descriptor) (v1.Descriptor, error) {
	var found, unnamed []v1.Descriptor
	var others []string
	for _, d := range all {
		switch p := d.Platform; {
		case !d.MediaType.IsImage() && !d.MediaType.IsIndex() && d.MediaType != types.MediaType(""):
		case p == nil:
			unnamed = append(unnamed, d)
		case p.OS == "linux" && p.Architecture == "amd64" && p.Variant == "":
			found = append([]v1.Descriptor{d}, found...)
		case p.OS == "linux" && p.Architecture == "amd64" && p.Variant == "v1":
			found = append(found, d)
		case p.OS != "unknown" && len(others) < 8:
			others = append(others, untrusted.Line(p.String(), 40))
		}
	}
	if found = append(found, unnamed...); len(found) > 0 {
		return found[0], nil
	}
	list := strings.Join(others, ", ")
	if list == "" {
		list = "no platform"
	}
	return v1.Descriptor{}, fault.New(fault.Unsupported, "image_platform", "the image has no variant for linux/amd64; it is made for %s", list)
}

// readImage reads the settings of the image that doc describes.
func readImage(ctx context.Context, s source, l Limits, manifest v1.Hash, doc document) (*Image, error) {
	raw, err := readBlob(ctx, s.blob, *doc.Config, l.Config)
	if err != nil {
		return nil, err
	}
	i := &Image{Digest: manifest.String(), source: s, limits: l, close: func() {}}
	return i, i.configure(raw, doc.Layers)
}

// configure takes the settings from a configuration file and connects its list of
// layers with that of the manifest.
func (i *Image) configure(raw []byte, blobs []v1.Descriptor) error {
	var c v1.ConfigFile
	if err := json.Unmarshal(raw, &c); err != nil {
		return damaged(err, "its settings are no JSON document")
	}
	if c.OS != "" && c.OS != "linux" || c.Architecture != "" && c.Architecture != "amd64" {
		return fault.New(fault.Unsupported, "image_platform", "the image is made for %s/%s, not for linux/amd64", untrusted.Line(c.OS, 40), untrusted.Line(c.Architecture, 40))
	}
	if len(blobs) > i.limits.Layers {
		return tooLarge("it has %d layers, more than %d", len(blobs), i.limits.Layers)
	}
	if len(c.RootFS.DiffIDs) != len(blobs) {
		return damaged(nil, "its manifest lists %d layers and its settings %d", len(blobs), len(c.RootFS.DiffIDs))
	}
	var sum int64
	for n, b := range blobs {
		if b.Size < 0 || b.Size > i.limits.Compressed-sum {
			return tooLarge("its layers have more than %d bytes", i.limits.Compressed)
		}
		sum += b.Size
		i.layers = append(i.layers, layer{blob: b, diff: c.RootFS.DiffIDs[n]})
	}
	i.Settings = Settings{
		Env: c.Config.Env, User: c.Config.User, Workdir: c.Config.WorkingDir, Entrypoint: c.Config.Entrypoint, Cmd: c.Config.Cmd,
	}
	for port := range c.Config.ExposedPorts {
		i.Settings.Ports = append(i.Settings.Ports, port)
	}
	return i.Settings.check()
}

// Bounds of Settings.
const (
	maxSettings      = 4096     // entries of a list
	maxSettingsBytes = 64 << 10 // of one entry
	maxSettingsTotal = 1 << 20  // bytes of all entries
)

// check sorts the ports and refuses settings that no program could be given.
func (s *Settings) check() error {
	slices.Sort(s.Ports)
	total := 0
	for _, list := range [][]string{s.Env, s.Entrypoint, s.Cmd, s.Ports, {s.User, s.Workdir}} {
		if len(list) > maxSettings {
			return tooLarge("a list of its settings has more than %d entries", maxSettings)
		}
		for _, v := range list {
			if total += len(v); len(v) > maxSettingsBytes || total > maxSettingsTotal {
				return tooLarge("its settings have more than %d bytes, or one of them more than %d", maxSettingsTotal, maxSettingsBytes)
			}
			if strings.ContainsRune(v, 0) {
				return damaged(nil, "one of its settings holds a NUL")
			}
		}
	}
	return nil
}

// asFault returns err as a fault: faults in its chain keep their kind.
func asFault(err error, otherwise func(error) error) error {
	var f *fault.Error
	if err == nil || errors.As(err, &f) || errors.Is(err, context.Canceled) {
		return err
	}
	return otherwise(err)
}
