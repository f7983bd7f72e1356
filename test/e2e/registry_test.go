package e2e

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/image"
)

// startRegistry serves a registry on loopback with one image: the Debian packages of the
// template minimal, and a file and a variable of its own. It returns the registry's
// address and the image's reference.
func startRegistry(t *testing.T) (address, reference string) {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	address = strings.TrimPrefix(server.URL, "http://")
	reference = address + "/compat/debian:test"
	ref, err := name.ParseReference(reference, name.Insecure)
	check(t, err)
	check(t, remote.Write(ref, debianImage(t)))
	t.Cleanup(func() { removeImported(t, address) })
	return address, reference
}

// removeImported removes the images that came from a registry from the store that the
// suite shares.
func removeImported(t *testing.T, registry string) {
	t.Helper()
	images, err := image.Open(hosttest.ImagesDir(), hosttest.Log())
	check(t, err)
	const anyAge = -1
	imported, err := images.Unused(anyAge)
	check(t, err)
	for _, i := range imported {
		if !strings.HasPrefix(i.Imported.Reference, registry+"/") {
			continue
		}
		if removed, err := images.Remove(context.Background(), i, anyAge); !removed || err != nil {
			t.Errorf("remove the image %s: %t, %v", i.Name, removed, err)
		}
	}
}

// debianImage is an image with the files of the template minimal.
func debianImage(t *testing.T) v1.Image {
	t.Helper()
	dir := t.TempDir()
	root, archive := filepath.Join(dir, "root"), filepath.Join(dir, "layer.tar")
	erofs, err := filepath.Glob(filepath.Join(hosttest.ImagesDir(), "templates", "minimal", "current", "*.erofs"))
	check(t, err)
	if len(erofs) != 1 {
		t.Fatalf("the template minimal has the images %v, want one", erofs)
	}
	if out, err := exec.Command("fsck.erofs", "--extract="+root, "--preserve", erofs[0]).CombinedOutput(); err != nil {
		t.Fatalf("extract the template minimal: %v\n%s", err, out)
	}
	check(t, os.WriteFile(filepath.Join(root, "etc", "compat-image"), []byte("made by the test\n"), 0o644))
	writeTree(t, root, archive)
	layer, err := tarball.LayerFromFile(archive)
	check(t, err)
	out, err := mutate.AppendLayers(empty.Image, layer)
	check(t, err)
	config, err := out.ConfigFile()
	check(t, err)
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "FROM_IMAGE=of the image"}
	out, err = mutate.ConfigFile(out, config)
	check(t, err)
	return out
}

// writeTree writes the files below root, with their owners, as a tar archive. Devices and
// sockets are left out.
func writeTree(t *testing.T, root, archive string) {
	t.Helper()
	f, err := os.Create(archive)
	check(t, err)
	defer f.Close()
	w := tar.NewWriter(f)
	check(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		return writeEntry(w, root, path, d)
	}))
	check(t, errors.Join(w.Close(), f.Close()))
}

func writeEntry(w *tar.Writer, root, path string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	link := ""
	switch info.Mode().Type() {
	case 0, fs.ModeDir:
	case fs.ModeSymlink:
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	default:
		return nil
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return err
	}
	h.Name, h.Uname, h.Gname = rel, "", ""
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		h.Uid, h.Gid = int(owner.Uid), int(owner.Gid)
	}
	if err := w.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
