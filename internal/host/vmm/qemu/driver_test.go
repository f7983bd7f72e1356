package qemu_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
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
		Driver: deps.Driver, Limit: hosttest.Patience(t, 45*time.Second),
		New: func(t *testing.T) vmmtest.Guest { return newGuest(t, deps) },
	})
}

// guest drives one guest through its own protocol.
type guest struct {
	client *guestclient.Client
	cfg    vmm.Config
	exec   time.Duration // bounds one command
}

func newGuest(t testing.TB, deps host.Deps) vmmtest.Guest {
	t.Helper()
	g := newClient(t, deps)
	return vmmtest.Guest{Config: g.cfg, Ready: g.ready, Count: g.count, Freeze: g.freeze, Thaw: g.configure}
}

// newClient makes the disk and network of a VM, and the client of its guest.
func newClient(t testing.TB, deps host.Deps) *guest {
	t.Helper()
	dir := hosttest.Dir(t)
	slot, err := deps.Network.Acquire(t.Context(), "vm"+rand.Text()[:8])
	check(t, err)
	t.Cleanup(func() { slot.Release(context.Background()) })
	cfg := vmm.Config{
		ID: "test", Dir: filepath.Join(dir, "vm"), UID: uid, GID: uid, VCPUs: 1, MemoryMB: 256,
		Disk: filepath.Join(dir, "disk"), Scratch: dir,
	}
	cfg.Network, err = slot.Attach(deps.Driver.Info().Shape.Attachment)
	check(t, err)
	template, err := deps.Images.Template("minimal")
	check(t, err)
	cfg.RootImage = template.Path
	check(t, os.Mkdir(cfg.Dir, 0o700))
	check(t, disk.Create(t.Context(), cfg.Disk, 512<<20))
	g := &guest{cfg: cfg, exec: hosttest.Patience(t, 20*time.Second), client: guestclient.New(func(ctx context.Context, port uint16) (net.Conn, error) {
		return slot.Dial(ctx, port)
	})}
	t.Cleanup(g.client.Close)
	return g
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (g *guest) ready(ctx context.Context) error {
	if err := g.client.WaitReady(ctx); err != nil {
		return err
	}
	return g.configure(ctx)
}

func (g *guest) configure(ctx context.Context) error {
	entropy := make([]byte, 64)
	_, _ = rand.Read(entropy)
	res, err := g.client.Configure(ctx, &guestv1.ConfigureRequest{
		SandboxId: "test", Generation: 1, WallClockUnixNano: time.Now().UnixNano(),
		Entropy: entropy, Hostname: "test", AccessToken: "secret", DefaultUser: "root",
	})
	g.client.SetToken("secret")
	if err == nil && !res.GetReseeded() {
		err = errors.New("not reseeded")
	}
	return err
}

func (g *guest) freeze(ctx context.Context) error {
	_, err := g.client.Quiesce(ctx)
	return err
}

// counter starts, once, a process that counts in a file, and prints the count.
const counter = `[ -e /tmp/count ] || { echo 0 >/tmp/count
setsid sh -c 'n=0; while :; do n=$((n+1)); echo $n >/tmp/count.new; mv /tmp/count.new /tmp/count; sleep 0.05; done' >/dev/null 2>&1 & }
cat /tmp/count`

func (g *guest) count(ctx context.Context) (int, error) {
	out, err := g.shell(ctx, counter)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(out))
}

func (g *guest) shell(ctx context.Context, script string) (string, error) {
	stdin := false
	stream, err := g.client.Start(ctx, &process.StartRequest{
		Process: &process.ProcessConfig{Cmd: "/bin/sh", Args: []string{"-c", script}}, Stdin: &stdin,
	}, guestclient.StartOptions{Timeout: g.exec})
	if err != nil {
		return "", err
	}
	defer stream.Close()
	var out strings.Builder
	for {
		event, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return out.String(), nil
		}
		if err != nil {
			return "", err
		}
		out.Write(event.GetData().GetStdout())
		if end := event.GetEnd(); end != nil && end.GetExitCode() != 0 {
			return "", fmt.Errorf("exit code %d", end.GetExitCode())
		}
	}
}
