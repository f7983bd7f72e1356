package hosttest

import (
	"path/filepath"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/gvisor"
)

// GVisor returns the gVisor driver with the test's guest agent. It skips where no
// build of runsc is. Tests share the kept builds, as those of QEMU.
func GVisor(t testing.TB, adjust ...func(*gvisor.Options)) vmm.Driver {
	t.Helper()
	return GVisorOf(t, "", BuildsDir()+"-gvisor", nil, adjust...)
}

// GVisorOf is GVisor on a machine where program is the operator's own runsc and agent
// is the guest agent, with copies kept in builds. An empty program stands for the
// newest one that was built, and no agent for the test's own. adjust may change the
// options.
func GVisorOf(t testing.TB, program, builds string, agent []byte, adjust ...func(*gvisor.Options)) vmm.Driver {
	t.Helper()
	Root(t)
	images, err := image.Open(ImagesDir(), Log())
	if err != nil {
		missing(t, "the image store cannot be opened: %v", err)
	}
	if agent == nil {
		agent = GuestBinary(t)
	}
	packed, err := images.EnsureAgent(t.Context(), agent)
	if err != nil {
		t.Fatal(err)
	}
	options := gvisor.Options{
		Program: program, Built: filepath.Join(ImagesDir(), "runsc"), Builds: builds, Agent: packed.Path,
		Reason: "a test", MaxVCPUs: 2, Log: Log(),
	}
	for _, change := range adjust {
		change(&options)
	}
	d, err := gvisor.New(t.Context(), options)
	if err != nil {
		missing(t, "%v", err)
	}
	return d
}
