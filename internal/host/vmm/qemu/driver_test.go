package qemu_test

import (
	"context"
	"crypto/rand"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/kvmprobe"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/vmmtest"
)

func TestMain(m *testing.M) {
	kvmprobe.MaybeChild()
	os.Exit(m.Run())
}

// uid owns the VM processes of this test.
const uid = 699_999

// TestDriver runs the suite of every driver against QEMU and the real guest.
func TestDriver(t *testing.T) {
	deps := hosttest.Deps(t, hosttest.Name("wqemu"))
	t.Cleanup(func() {
		if err := deps.Network.(io.Closer).Close(); err != nil {
			t.Errorf("close network: %v", err)
		}
	})
	vmmtest.Run(t, vmmtest.Fixture{
		Driver: deps.Drivers.Preferred(), Limit: hosttest.Patience(t, 45*time.Second),
		New: func(t *testing.T) vmmtest.Guest { return newGuest(t, deps) },
	})
}

// guest drives one guest through its own protocol.
type guest struct {
	*vmmtest.Client
	cfg vmm.Config
}

func newGuest(t testing.TB, deps host.Deps) vmmtest.Guest {
	t.Helper()
	g := newClient(t, deps)
	return g.Guest(g.cfg)
}

// newClient makes the disk and network of a VM, and the client of its guest.
func newClient(t testing.TB, deps host.Deps) *guest {
	t.Helper()
	dir := hosttest.Dir(t)
	how := deps.Drivers.Preferred().Info().Shape.Attachment
	slot, err := deps.Network.Acquire(t.Context(), "vm"+rand.Text()[:8], how)
	check(t, err)
	t.Cleanup(func() { slot.Release(context.Background()) })
	cfg := vmm.Config{
		ID: "test", Dir: filepath.Join(dir, "vm"), UID: uid, GID: uid, VCPUs: 1, MemoryMB: 256,
		Disk: filepath.Join(dir, "disk"), Scratch: dir,
	}
	cfg.Network, err = slot.Attach(how)
	check(t, err)
	template, err := deps.Images.Template("minimal")
	check(t, err)
	cfg.RootImage = template.Path
	check(t, os.Mkdir(cfg.Dir, 0o700))
	check(t, disk.Create(t.Context(), cfg.Disk, 512<<20))
	return &guest{cfg: cfg, Client: vmmtest.NewClient(t, hosttest.Patience(t, 20*time.Second), slot.Dial)}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
