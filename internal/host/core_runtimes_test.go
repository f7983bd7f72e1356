package host_test

import (
	"context"
	"slices"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/fake"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// createUnder creates a sandbox of the runtime, with the file that intact looks for.
func (c *core) createUnder(runtime sandbox.Runtime) sandbox.Ref {
	c.t.Helper()
	ref, spec := newRef(), coreSpec
	spec.Runtime = runtime
	_, err := c.Create(c.t.Context(), ref, spec)
	check(c.t, err)
	c.write(ref, mark, string(ref.ID))
	return ref
}

// underOwnRuntime checks that each sandbox names its runtime, has the isolation of it,
// and, if it runs, a VM of its driver.
func (c *core) underOwnRuntime(want map[sandbox.Ref]sandbox.Runtime) {
	c.t.Helper()
	drivers := map[sandbox.Runtime]string{sandbox.RuntimeMicroVM: "fake", sandbox.RuntimeGVisor: "fake-checkpoint"}
	isolation := map[sandbox.Runtime]sandbox.Isolation{
		sandbox.RuntimeMicroVM: sandbox.IsolationProcess, sandbox.RuntimeGVisor: sandbox.IsolationUserspaceKernel,
	}
	for ref, runtime := range want {
		s := c.of(ref)
		if s.Spec.Runtime != runtime || s.Isolation != isolation[runtime] {
			c.t.Errorf("sandbox %s has the runtime %q and the isolation %q, want %s", ref.ID, s.Spec.Runtime, s.Isolation, runtime)
		}
		for _, rec := range c.machine.Records() {
			if rec.ID == string(ref.ID) && rec.Driver != drivers[runtime] {
				c.t.Errorf("sandbox %s of the runtime %s has a VM of the driver %s", ref.ID, runtime, rec.Driver)
			}
		}
	}
}

// TestCoreRuntimes: a host with two runtimes gives each sandbox the one that it asks
// for, or the preferred one. Pauses, snapshots, copies and the next agent, which may
// prefer the other one, keep to it.
func TestCoreRuntimes(t *testing.T) {
	for _, k := range shapes(t) {
		t.Run(k.name, func(t *testing.T) {
			c := newCoreOf(t, k)
			info, err := c.Info(t.Context())
			check(t, err)
			preferred := info.Runtimes[0].Runtime
			any, micro, sentry := c.create(), c.createUnder(sandbox.RuntimeMicroVM), c.createUnder(sandbox.RuntimeGVisor)
			takeSnapshot(c, sentry)
			other := sandbox.SnapshotID("core11111111111111111111")
			_, err = c.Snapshot(t.Context(), micro, other, false)
			check(t, err)
			fromSentry, fromMicro := newRef(), newRef()
			_, err = c.CreateFrom(t.Context(), fromSentry, coreSpec, coreSnapshot)
			check(t, err)
			_, err = c.CreateFrom(t.Context(), fromMicro, coreSpec, other)
			check(t, err)
			want := map[sandbox.Ref]sandbox.Runtime{
				any: preferred, micro: sandbox.RuntimeMicroVM, sentry: sandbox.RuntimeGVisor,
				fromMicro: sandbox.RuntimeMicroVM, fromSentry: sandbox.RuntimeGVisor,
			}
			c.underOwnRuntime(want)
			pauseSubject(c, micro)
			pauseSubject(c, fromSentry)
			if c.shape == fake.Mapped {
				c.shape = fake.Checkpointed
			} else {
				c.shape = fake.Mapped
			}
			c.restart()
			c.underOwnRuntime(want)
			check(t, actResume.do(t.Context(), c, micro))
			check(t, actResume.do(t.Context(), c, fromSentry))
			c.underOwnRuntime(want)
			c.agree()
			c.empty()
		})
	}
}

// TestCorePoolsOfTwoRuntimes: a warm clone becomes a sandbox of its own runtime only.
func TestCorePoolsOfTwoRuntimes(t *testing.T) {
	c := newCore(t, fastTemp(t))
	sentry := corePool
	sentry.Spec.Runtime = sandbox.RuntimeGVisor
	c.restart(sentry)
	awaitPool(t, c.Manager, 1)
	if s := c.of(c.createUnder(sandbox.RuntimeMicroVM)); s.Source != "restore" {
		t.Errorf("a sandbox of a runtime without a pool came from %q", s.Source)
	}
	if s := c.of(c.createUnder(sandbox.RuntimeGVisor)); s.Source != "pool" {
		t.Errorf("a sandbox of the pool's runtime came from %q", s.Source)
	}
	i := slices.IndexFunc(c.Pools(), func(p host.PoolInfo) bool { return p.Spec.Runtime == sandbox.RuntimeGVisor })
	if i < 0 || c.Pools()[i].Hits != 1 || c.Pools()[i].Misses != 0 {
		t.Errorf("the pools are %+v, want one hit", c.Pools())
	}
	c.restart()
	c.sound()
	c.empty()
}

// TestCoreRuntimeIsGone: an agent without the driver of a paused sandbox keeps it until
// the driver is back.
func TestCoreRuntimeIsGone(t *testing.T) {
	c := newCore(t, fastTemp(t))
	paused := c.createUnder(sandbox.RuntimeGVisor)
	takeSnapshot(c, paused)
	pauseSubject(c, paused)
	c.single = true
	c.restart()
	if s := c.of(paused); s.State != sandbox.Paused || s.Spec.Runtime != sandbox.RuntimeGVisor {
		t.Errorf("without its driver the sandbox is %s of the runtime %q", s.State, s.Spec.Runtime)
	}
	if err := actResume.do(t.Context(), c, paused); fault.ReasonOf(err) != "runtime_unavailable" {
		t.Errorf("resume without the driver: %v", err)
	}
	if _, err := c.CreateFrom(t.Context(), newRef(), coreSpec, coreSnapshot); fault.ReasonOf(err) != "runtime_unavailable" {
		t.Errorf("a copy of a snapshot without the driver: %v", err)
	}
	c.agree()
	c.single = false
	c.restart()
	c.sound()
	c.empty()
}

// TestCoreRuntimeIsGoneWithItsVMs: the host restarts, and the next agent lacks a
// runtime. A sandbox that ran under it has ended and can be removed. One whose resume
// was under way is still paused.
func TestCoreRuntimeIsGoneWithItsVMs(t *testing.T) {
	c := newCore(t, "")
	running, resuming := c.createUnder(sandbox.RuntimeGVisor), c.createUnder(sandbox.RuntimeGVisor)
	pauseSubject(c, resuming)
	reached, _ := c.hook.hold("resume.configure")
	go func() { _ = actResume.do(context.WithoutCancel(t.Context()), c, resuming) }()
	<-reached
	c.single = true
	c.endOfHost()
	c.open()
	if s := c.of(running); s.State != sandbox.Stopped {
		t.Errorf("the sandbox that ran is %s, want stopped", s.State)
	}
	check(t, c.Destroy(t.Context(), running, sandbox.ReasonDestroyed))
	if s := c.of(resuming); s.State != sandbox.Paused {
		t.Errorf("the sandbox whose resume was cut off is %s %s, want paused", s.State, s.StopReason)
	}
	c.single = false
	c.restart()
	c.sound()
	c.empty()
}
