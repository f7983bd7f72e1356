package hosttest

import (
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/image"
)

// containerRecipe is the recipe of a template with a small container engine, programs of
// file systems in user space, and a static shell to make containers of.
var containerRecipe = image.Recipe{
	Name:     "test-containers",
	Suite:    image.Suite,
	Packages: []string{"bindfs", "busybox-static", "crun", "fuse3", "iproute2", "iptables", "uidmap"},
	Commands: []string{"useradd -m user"},
}

// Containers returns the name of a template with crun, which it builds in the image
// store that tests share if it is not there.
func Containers(t testing.TB) string {
	t.Helper()
	Root(t)
	images, err := image.Open(ImagesDir(), Log())
	if err != nil {
		missing(t, "the image store cannot be opened: %v", err)
	}
	if _, err := images.EnsureTemplate(t.Context(), containerRecipe, image.Quiet); err != nil {
		t.Fatal(err)
	}
	return containerRecipe.Name
}
