package hosttest

import (
	"path/filepath"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/gvisor"
)

// GVisor returns the gVisor driver with the test's guest agent. It skips where no
// build of runsc is.
func GVisor(t testing.TB) vmm.Driver {
	t.Helper()
	Root(t)
	images, err := image.Open(ImagesDir(), Log())
	if err != nil {
		missing(t, "the image store cannot be opened: %v", err)
	}
	agent, err := images.EnsureAgent(t.Context(), GuestBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	d, err := gvisor.New(gvisor.Options{
		Runtimes: filepath.Join(ImagesDir(), "runsc"), Agent: agent.Path, Reason: "a test", MaxVCPUs: 2, Log: Log(),
	})
	if err != nil {
		missing(t, "%v", err)
	}
	return d
}
