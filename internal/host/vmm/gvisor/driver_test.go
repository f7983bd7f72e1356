package gvisor_test

import (
	"context"
	"crypto/rand"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/cgroup"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/vmmtest"
)

// uid is the first user id of the sandboxes of this test.
const uid = 640_000_000

// TestDriver runs the suite of every driver against gVisor and the real guest.
func TestDriver(t *testing.T) {
	d, image := newDriver(t)
	vmmtest.Run(t, vmmtest.Fixture{
		Driver: d, Limit: hosttest.Patience(t, 45*time.Second),
		New: func(t *testing.T) vmmtest.Guest { g := newGuest(t, image); return g.Guest(g.cfg) },
	})
}

// driver makes the network namespace of a sandbox anew before each start, as the
// network of a host does: runsc takes the addresses away.
type driver struct{ vmm.Driver }

func (d driver) Start(ctx context.Context, cfg vmm.Config) (vmm.VM, error) {
	if err := address(cfg.Network.Namespace); err != nil {
		return nil, err
	}
	return d.Driver.Start(ctx, cfg)
}

func (d driver) Restore(ctx context.Context, cfg vmm.Config, from vmm.Image) (vmm.VM, error) {
	if err := address(cfg.Network.Namespace); err != nil {
		return nil, err
	}
	return d.Driver.Restore(ctx, cfg, from)
}

func newDriver(t testing.TB) (driver, string) {
	t.Helper()
	images, err := image.Open(hosttest.ImagesDir(), hosttest.Log())
	check(t, err)
	template, err := images.Template("minimal")
	check(t, err)
	return driver{hosttest.GVisor(t)}, template.Path
}

// guest drives one guest through its own protocol.
type guest struct {
	*vmmtest.Client
	cfg vmm.Config
}

func newGuest(t testing.TB, image string) *guest {
	t.Helper()
	dir := hosttest.Dir(t)
	name := hosttest.Name("gv" + strings.ToLower(rand.Text()[:6]))
	cfg := vmm.Config{
		ID: "test", Dir: filepath.Join(dir, "vm"), UID: uid, GID: uid, VCPUs: 1, MemoryMB: 256, DiskMB: 512, Hostname: "test",
		RootImage: image, Scratch: dir, Network: vmm.Network{Namespace: newNamespace(t, name)},
	}
	check(t, os.Mkdir(cfg.Dir, 0o700))
	cfg.Cgroup = newGroup(t, name, cgroup.Limits{MemoryBytes: groupBytes, CPUs: 1.5, PIDs: 256}).Dir()
	return &guest{cfg: cfg, Client: vmmtest.NewClient(t, hosttest.Patience(t, 20*time.Second), func(ctx context.Context, port uint16) (net.Conn, error) {
		return dialIn(ctx, name, port)
	})}
}

// groupBytes is the memory limit of the sandboxes of this test.
const groupBytes = 384 << 20

// hostLimits puts the guest into a control group with the limits that a host sets.
func (g *guest) hostLimits(t testing.TB, s vmm.Shape) {
	t.Helper()
	g.cfg.Cgroup = newGroup(t, filepath.Base(g.cfg.Network.Namespace)+"h", cgroup.Limits{
		MemoryBytes: int64(s.HostMemoryMB(g.cfg.MemoryMB, g.cfg.DiskMB)+s.OverheadMB+s.GraceMB) << 20,
		CPUs:        float64(g.cfg.VCPUs) + s.OverheadCPUs,
		PIDs:        s.HostTasks(g.cfg.MemoryMB, g.cfg.VCPUs),
	}).Dir()
}

// newGroup makes a control group.
func newGroup(t testing.TB, name string, limits cgroup.Limits) *cgroup.Group {
	t.Helper()
	groups, err := cgroup.Open(hosttest.Name("wgv"), hosttest.Log())
	check(t, err)
	group, err := groups.Create(name, limits)
	check(t, err)
	t.Cleanup(func() {
		check(t, group.Kill(context.WithoutCancel(t.Context())))
		check(t, group.Remove())
		if others, err := filepath.Glob("/sys/fs/cgroup/*/" + hosttest.Name("wgv") + "/*/cgroup.procs"); err != nil || len(others) > 0 {
			return // of the same test
		}
		check(t, groups.Close())
		// The parents of the groups that runsc makes in the other hierarchies.
		left, err := filepath.Glob("/sys/fs/cgroup/*/" + hosttest.Name("wgv"))
		check(t, err)
		for _, dir := range left {
			check(t, os.Remove(dir))
		}
	})
	return group
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
