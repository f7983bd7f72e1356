package gvisor_test

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
		New: func(t *testing.T) vmmtest.Guest { return newGuest(t, image).fixture() },
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
	template, err := hosttest.SentryImages(t, images).Template("minimal")
	check(t, err)
	return driver{hosttest.GVisor(t)}, template.Path
}

// guest drives one guest through its own protocol.
type guest struct {
	client *guestclient.Client
	cfg    vmm.Config
	exec   time.Duration // bounds one command
}

func (g *guest) fixture() vmmtest.Guest {
	return vmmtest.Guest{Config: g.cfg, Ready: g.ready, Count: g.count, Freeze: g.freeze, Thaw: g.configure}
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
	cfg.Cgroup = newGroup(t, name, groupBytes).Dir()
	g := &guest{cfg: cfg, exec: hosttest.Patience(t, 20*time.Second), client: guestclient.New(func(ctx context.Context, port uint16) (net.Conn, error) {
		return dialIn(ctx, name, port)
	})}
	t.Cleanup(g.client.Close)
	return g
}

// groupBytes is the memory limit of the sandboxes of this test.
const groupBytes = 384 << 20

// newGroup makes a control group with the limits that a host sets; memory is in bytes.
func newGroup(t testing.TB, name string, memory int64) *cgroup.Group {
	t.Helper()
	groups, err := cgroup.Open(hosttest.Name("wgv"), hosttest.Log())
	check(t, err)
	group, err := groups.Create(name, cgroup.Limits{MemoryBytes: memory, CPUs: 1.5, PIDs: 256})
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
