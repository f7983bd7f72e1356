package host_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/fakes"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/fake"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// core is a host agent on a fake host, which needs no root. The host outlives its
// agents, which have drivers of both shapes.
type core struct {
	t         *testing.T
	dir       string
	templates string
	shape     vmm.Shape // of the preferred driver
	pools     []host.PoolKind
	change    func(*host.Config) // of every agent, unless nil

	machine *fake.Host
	network *fakes.Network
	groups  *fakes.Cgroups
	images  host.Images
	// programs accept the connections to ports of every guest; constant once set.
	programs map[uint16]net.Listener
	// dialed, unless nil, replaces connections to guests; changed only between agents.
	dialed func(net.Conn) net.Conn

	*host.Manager
	hook *hook
	// wrap, unless nil, changes the driver of the agents that are opened next.
	wrap func(vmm.Driver) vmm.Driver
	// single leaves out the driver of the other shape.
	single  bool
	crashed []func() // of agents that have crashed: let their goroutines end
}

var coreSpec = sandbox.Spec{MemoryMB: 128, DiskMB: 256}.WithDefaults()

// errInjected is the failure of a step that a test lets fail.
var errInjected = errors.New("this step was told to fail")

// hook is the OnStep of one agent. It acts on one step, once.
type hook struct {
	unblock chan struct{} // closed to end the goroutines of a crashed agent

	mu   sync.Mutex // protects the following
	step string
	kill bool
	dead bool
	met  chan struct{} // closed at the step
	held chan struct{} // nil, or closed to end the wait at the step
	seen []string      // the steps that have begun, in order
}

// begun returns the steps that have begun since the last call, in order.
func (h *hook) begun() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := h.seen
	h.seen = nil
	return seen
}

// arm makes the next run of step fail, or with kill end the agent. It returns
// a channel that is closed at that step.
func (h *hook) arm(step string, kill bool) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.step, h.kill, h.met, h.held = step, kill, make(chan struct{}), nil
	return h.met
}

// hold makes the next run of step wait until unblock is called.
func (h *hook) hold(step string) (reached <-chan struct{}, unblock func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	held := make(chan struct{})
	h.step, h.kill, h.met, h.held = step, false, make(chan struct{}), held
	return h.met, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.step, h.held = "", nil
		close(held)
	}
}

func (h *hook) onStep(step string) error {
	h.mu.Lock()
	h.seen = append(h.seen, step)
	hit := step == h.step && !h.dead
	if hit {
		h.step = ""
		h.dead = h.kill
		close(h.met)
	}
	dead, held := h.dead, h.held
	h.mu.Unlock()
	if hit && held != nil {
		<-held
		return nil
	}
	if dead {
		<-h.unblock
	}
	if hit || dead {
		return errInjected
	}
	return nil
}

// newCore opens an agent on a new fake host of the shape fake.Mapped. Agents of one
// test share templates.
func newCore(t *testing.T, templates string) *core {
	t.Helper()
	return newCoreOf(t, kind{shape: fake.Mapped, templates: templates})
}

// A kind is a shape of VMs, with a directory of template snapshots of that shape.
type kind struct {
	name      string
	shape     vmm.Shape
	templates string
}

// shapes returns both shapes of VMs, each with an empty directory for template
// snapshots.
func shapes(t *testing.T) []kind {
	t.Helper()
	return []kind{{"mapped", fake.Mapped, fastTemp(t)}, {"checkpointed", fake.Checkpointed, fastTemp(t)}}
}

// fastTemp is t.TempDir on the file system of fake hosts.
func fastTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(fastDir(), "templates")
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	return dir
}

// fastDir is the parent of the directories of fake hosts. It is in memory where that
// has room, because the suites create many thousands of files: on a disk that takes
// most of their time. Empty is the usual directory.
func fastDir() string {
	const memory, room = "/dev/shm", 1 << 30
	if _, free, err := disk.Space(memory); err != nil || free < room {
		return ""
	}
	return memory
}

// kinds returns both shapes of VMs, each with the template snapshot of coreSpec, for
// tests that run in parallel below t.
func kinds(t *testing.T) []kind {
	t.Helper()
	all := shapes(t)
	for _, k := range all {
		c := newCoreOf(t, k)
		c.create()
		c.empty()
	}
	return all
}

// newCoreOf is newCore for the shape and templates of k.
func newCoreOf(t *testing.T, k kind) *core {
	t.Helper()
	dir, err := os.MkdirTemp(fastDir(), "core")
	check(t, err)
	c := &core{t: t, dir: dir, templates: k.templates, shape: k.shape, groups: fakes.NewCgroups()}
	for _, name := range []string{"data", "guests", "taps", "images"} {
		check(t, os.Mkdir(filepath.Join(dir, name), 0o700))
	}
	c.machine = fake.NewHost(filepath.Join(dir, "guests"))
	c.network = fakes.NewNetwork(filepath.Join(dir, "taps"), func(ctx context.Context, tap string, port uint16) (net.Conn, error) {
		if l := c.programs[port]; l != nil {
			return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		}
		conn, err := c.machine.Dial(ctx, tap, port)
		if err == nil && c.dialed != nil {
			conn = c.dialed(conn)
		}
		return conn, err
	})
	c.images, err = fakes.NewImages(filepath.Join(dir, "images"))
	check(t, err)
	t.Cleanup(c.cleanUp)
	c.open()
	return c
}

// open opens the next agent on the same host.
func (c *core) open() {
	c.t.Helper()
	c.openWith(&hook{unblock: make(chan struct{})})
}

// openWith opens the next agent with a hook that may be armed.
func (c *core) openWith(h *hook) {
	c.t.Helper()
	c.network.Restart()
	c.hook = h
	m, err := host.Open(c.t.Context(), c.config(), c.deps())
	if err != nil {
		c.t.Fatalf("open the host: %v", err)
	}
	c.Manager = m
}

func (c *core) config() host.Config {
	cfg := host.Config{
		Dir: filepath.Join(c.dir, "data"), DiskReserveBytes: 1, MemoryReserveMB: 2, TemplateDir: c.templates, Pools: c.pools,
		MemoryOvercommit: 100, DiskOvercommit: 100, BootTimeout: time.Minute, GuestTimeout: time.Minute, TemplateRest: time.Millisecond,
		OnStep: c.hook.onStep,
	}
	if c.change != nil {
		c.change(&cfg)
	}
	return cfg
}

func (c *core) deps() host.Deps {
	driver, other := vmm.Driver(fake.NewOf(c.machine, c.shape)), fake.Checkpointed
	if c.shape == other {
		other = fake.Mapped
	}
	if c.wrap != nil {
		driver = c.wrap(driver)
	}
	drivers := vmm.Drivers{driver, fake.NewOf(c.machine, other)}
	if c.single {
		drivers = drivers[:1]
	}
	return host.Deps{
		Finders: []vmm.Finder{fake.NewOf(c.machine, fake.Mapped), fake.NewOf(c.machine, fake.Checkpointed)},
		Drivers: drivers, Network: c.network, Images: c.images, Cgroups: c.groups, GuestVersion: "fake", Log: hosttest.Log(),
	}
}

// crash ends the agent, which has met the step of its hook, and opens the next.
func (c *core) crash() {
	c.t.Helper()
	m, h := c.Manager, c.hook
	c.Manager = nil
	m.Crash()
	c.crashed = append(c.crashed, func() { close(h.unblock); m.Bury() })
	c.pools = nil
	c.open()
}

// cleanUp ends everything without checks.
func (c *core) cleanUp() {
	if c.Manager != nil {
		_ = c.Close()
	}
	for _, bury := range c.crashed {
		bury()
	}
	c.machine.Close()
	if err := os.RemoveAll(c.dir); err != nil {
		c.t.Errorf("remove the test directory: %v", err)
	}
}

// create creates a sandbox that holds the file that intact looks for.
func (c *core) create() sandbox.Ref {
	c.t.Helper()
	ref := newRef()
	_, err := c.Create(c.t.Context(), ref, coreSpec)
	check(c.t, err)
	c.write(ref, mark, string(ref.ID))
	return ref
}

// mark is the name of the file whose content is the sandbox's id.
const mark = "mark"

func (c *core) write(ref sandbox.Ref, path, content string) {
	c.t.Helper()
	if _, err := c.WriteFile(c.t.Context(), ref, guestclient.WriteFile{Path: path}, strings.NewReader(content)); err != nil {
		c.t.Fatalf("write a file in %s: %v", ref.ID, err)
	}
}

func (c *core) read(ref sandbox.Ref, path string) string {
	c.t.Helper()
	f, err := c.ReadFile(c.t.Context(), ref, guestclient.ReadFile{Path: path})
	if err != nil {
		c.t.Fatalf("read a file in %s: %v", ref.ID, err)
	}
	data, err := io.ReadAll(f)
	check(c.t, errors.Join(err, f.Close()))
	return string(data)
}

// sh runs a command in the sandbox and returns its output.
func (c *core) sh(ref sandbox.Ref, script string) (string, error) {
	var out strings.Builder
	stdin := false
	err := c.Exec(c.t.Context(), ref, host.Exec{Start: &process.StartRequest{
		Process: &process.ProcessConfig{Cmd: "/bin/sh", Args: []string{"-c", script}}, Stdin: &stdin,
	}}, func(e *process.ProcessEvent) error {
		out.Write(e.GetData().GetStdout())
		return nil
	})
	return strings.TrimSpace(out.String()), err
}

// of returns the sandbox of ref, with the state "" if there is none.
func (c *core) of(ref sandbox.Ref) host.Sandbox {
	for _, s := range c.List() {
		if s.Ref.ID == ref.ID {
			return s
		}
	}
	return host.Sandbox{Ref: ref}
}

// restart ends the agent in good order and opens the next one, which keeps
// pools. Warm clones end with their agent.
func (c *core) restart(pools ...host.PoolKind) {
	c.t.Helper()
	check(c.t, c.Close())
	c.pools = pools
	c.open()
}
