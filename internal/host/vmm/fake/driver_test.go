package fake_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/fake"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/vmmtest"
)

// shapes are the shapes of fake drivers, by name.
var shapes = map[string]vmm.Shape{"mapped": fake.Mapped, "checkpointed": fake.Checkpointed}

// TestDriver runs the suite of every driver.
func TestDriver(t *testing.T) {
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			h := fake.NewHost(t.TempDir())
			t.Cleanup(h.Close)
			vmmtest.Run(t, vmmtest.Fixture{
				Driver: fake.NewOf(h, shape), Limit: 10 * time.Minute, Processes: processes{h},
				New: func(t *testing.T) vmmtest.Guest { return newGuest(t, h, shape) },
			})
		})
	}
}

// processes are those of the fake host.
type processes struct{ host *fake.Host }

func (p processes) Crash(rec vmm.Record) error    { p.host.End(rec, vmm.CauseVMM); return nil }
func (p processes) Stop(rec vmm.Record) error     { p.host.Stop(rec); return nil }
func (p processes) Continue(rec vmm.Record) error { p.host.Continue(rec); return nil }
func (p processes) Alive(rec vmm.Record) bool     { return p.host.Alive(rec) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newGuest(t *testing.T, h *fake.Host, shape vmm.Shape) vmmtest.Guest {
	t.Helper()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	check(t, os.Mkdir(path("vm"), 0o700))
	check(t, os.WriteFile(path("image"), nil, 0o600))
	check(t, os.WriteFile(path("tap"), nil, 0o600))
	cfg := vmm.Config{
		ID: "test", Dir: path("vm"), VCPUs: 1, MemoryMB: 128, RootImage: path("image"), DiskMB: 512, Scratch: dir,
		Network: vmm.Network{OpenTap: func() (*os.File, error) { return os.Open(path("tap")) }, Namespace: path("tap")},
	}
	if !shape.DiskInSnapshot {
		cfg.Disk = path("disk")
		check(t, disk.Create(t.Context(), cfg.Disk, 512<<20))
	}
	client := guestclient.New(func(ctx context.Context, port uint16) (net.Conn, error) { return h.Dial(ctx, path("tap"), port) })
	t.Cleanup(client.Close)
	g := &guest{t: t, host: h, shape: shape, client: client, dir: dir}
	return vmmtest.Guest{Config: cfg, Ready: g.ready, Count: g.count, Freeze: g.freeze, Thaw: g.configure}
}

// guest drives one fake guest through its own protocol.
type guest struct {
	t      *testing.T
	host   *fake.Host
	shape  vmm.Shape
	client *guestclient.Client
	dir    string
}

func (g *guest) ready(ctx context.Context) error {
	return errors.Join(g.client.WaitReady(ctx), g.configure(ctx))
}

func (g *guest) configure(ctx context.Context) error {
	entropy := make([]byte, 64)
	_, _ = rand.Read(entropy)
	_, err := g.client.Configure(ctx, &guestv1.ConfigureRequest{
		SandboxId: "test", Generation: 1, WallClockUnixNano: time.Now().UnixNano(),
		Entropy: entropy, Hostname: "test", AccessToken: "secret", DefaultUser: "root",
	})
	g.client.SetToken("secret")
	return err
}

func (g *guest) freeze(ctx context.Context) error {
	_, err := g.client.Quiesce(ctx)
	return err
}

// count asks the guest for a sign of life, over its connection, and increments
// the counter in its memory.
func (g *guest) count(ctx context.Context) (int, error) {
	if err := g.client.Ping(ctx); err != nil {
		return 0, err
	}
	found, err := fake.NewOf(g.host, g.shape).Find(g.dir)
	if err != nil || len(found) != 1 {
		return 0, errors.Join(err, errors.New("the VM is not found"))
	}
	return g.host.Count(found[0])
}

// saveWhole saves a paused VM.
func saveWhole(t *testing.T, vm vmm.VM) vmm.Image {
	t.Helper()
	from := vmm.Image{Base: t.TempDir()}
	save, err := vm.BeginSave(t.Context(), from.Base)
	check(t, err)
	_, err = save.Finish(t.Context())
	check(t, errors.Join(err, save.Close()))
	return from
}

// TestRestoreRefusesPartsOfTwoStops restores device state of one stop with the
// disk of a VM that has run since.
func TestRestoreRefusesPartsOfTwoStops(t *testing.T) {
	h := fake.NewHost(t.TempDir())
	t.Cleanup(h.Close)
	g, d := newGuest(t, h, fake.Mapped), fake.New(h)
	vm, err := d.Start(t.Context(), g.Config)
	check(t, err)
	check(t, g.Ready(t.Context()))
	check(t, g.Freeze(t.Context()))
	check(t, vm.Pause(t.Context()))
	from := saveWhole(t, vm)
	check(t, vm.Resume(t.Context()))
	check(t, vm.Kill(t.Context()))
	if _, err := d.Restore(t.Context(), g.Config, from); err == nil {
		t.Fatal("a VM was restored with a disk on which another had run")
	}
	if found, _ := d.Find("/"); len(found) != 0 {
		t.Fatalf("a refused restore left %v", found)
	}
}

// TestFilesRoundTrip writes a file in a guest and reads it after a restore.
func TestFilesRoundTrip(t *testing.T) {
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) { filesRoundTrip(t, shape) })
	}
}

func filesRoundTrip(t *testing.T, shape vmm.Shape) {
	h := fake.NewHost(t.TempDir())
	t.Cleanup(h.Close)
	g, d := newGuest(t, h, shape), fake.NewOf(h, shape)
	vm, err := d.Start(t.Context(), g.Config)
	check(t, err)
	check(t, g.Ready(t.Context()))
	client := guestclient.New(func(ctx context.Context, port uint16) (net.Conn, error) {
		tap, err := g.Config.Network.OpenTap()
		check(t, err)
		return h.Dial(ctx, tap.Name(), port)
	})
	t.Cleanup(client.Close)
	client.SetToken("secret")
	_, err = client.WriteFile(t.Context(), guestclient.WriteFile{Path: "note"}, strings.NewReader("kept"))
	check(t, err)
	check(t, g.Freeze(t.Context()))
	check(t, vm.Pause(t.Context()))
	from := saveWhole(t, vm)
	check(t, vm.Kill(t.Context()))
	vm, err = d.Restore(t.Context(), g.Config, from)
	check(t, err)
	check(t, vm.Resume(t.Context()))
	check(t, g.Thaw(t.Context()))
	f, err := client.ReadFile(t.Context(), guestclient.ReadFile{Path: "note"})
	check(t, err)
	defer f.Body.Close()
	if data, err := io.ReadAll(f.Body); err != nil || string(data) != "kept" {
		t.Fatalf("the file holds %q, %v after the restore", data, err)
	}
}
