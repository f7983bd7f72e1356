package hosttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/gvisor"
)

// GVisor returns the gVisor driver with the test's guest agent. It skips where no
// build of runsc is.
func GVisor(t testing.TB) vmm.Driver {
	t.Helper()
	Root(t)
	dir := Dir(t)
	agent, tree := filepath.Join(dir, "agent.erofs"), filepath.Join(dir, "agent")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "wrenn-guest"), GuestBinary(t), 0o755); err != nil {
		t.Fatal(err)
	}
	sentryImage(t, agent, tree)
	d, err := gvisor.New(gvisor.Options{
		Runtimes: filepath.Join(ImagesDir(), "runsc"), Agent: agent, Reason: "a test", MaxVCPUs: 2, Log: Log(),
	})
	if err != nil {
		missing(t, "%v", err)
	}
	return d
}

// sentryImage makes an image that the sentry can read: without data in inodes and
// without extended attributes.
func sentryImage(t testing.TB, path, tree string) {
	t.Helper()
	if out, err := exec.Command("mkfs.erofs", "--quiet", "-T0", "-Enoinline_data", "-x-1", path, tree).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.erofs: %v: %s", err, out)
	}
}

// SentryImages returns images whose templates the sentry can read.
func SentryImages(t testing.TB, images host.Images) host.Images { return sentryImages{images, t} }

type sentryImages struct {
	host.Images
	t testing.TB
}

// Template implements host.Images.
func (i sentryImages) Template(name string) (image.Template, error) {
	t, err := i.Images.Template(name)
	if err == nil {
		t.Path, t.Digest = repacked(i.t, t.Path), t.Digest+"-sentry"
	}
	return t, err
}

// repacked returns an image with the content of the one at path that the sentry can
// read. The tests of a machine share it.
func repacked(t testing.TB, path string) string {
	t.Helper()
	shared := filepath.Join(filepath.Dir(ImagesDir()), "test-gvisor")
	packed := filepath.Join(shared, filepath.Base(filepath.Dir(path))+".erofs")
	if _, err := os.Stat(packed); err == nil {
		return packed
	}
	if err := os.MkdirAll(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	work, err := os.MkdirTemp(shared, ".new-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(work)
	tree := filepath.Join(work, "tree")
	if out, err := exec.Command("fsck.erofs", "--extract="+tree, "--preserve", path).CombinedOutput(); err != nil {
		t.Fatalf("fsck.erofs: %v: %s", err, out)
	}
	sentryImage(t, filepath.Join(work, "image"), tree)
	if err := os.Rename(filepath.Join(work, "image"), packed); err != nil {
		t.Fatal(err)
	}
	return packed
}
