package host_test

import (
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// newSilentBench opens an agent that soon finds out that a guest is silent.
func newSilentBench(t *testing.T, r sandbox.Runtime, name string) *bench {
	t.Helper()
	return newBenchOf(t, r, name, func(cfg *host.Config) {
		cfg.GuestTimeout = hosttest.Patience(t, 2*time.Second)
		cfg.ProbeInterval = time.Second
	})
}

// awaitHealth returns once the sandbox is running with this health.
func (b *bench) awaitHealth(ref sandbox.Ref, want sandbox.HealthState) host.Sandbox {
	b.t.Helper()
	changes, cancel := b.Subscribe()
	defer cancel()
	limit := time.After(hosttest.Patience(b.t, 2*time.Minute))
	for s := b.state(ref.ID); ; {
		if s.Ref.ID == ref.ID && s.State == sandbox.Running && s.Health.State == want {
			return s
		}
		select {
		case s = <-changes:
		case <-limit:
			b.t.Fatalf("health of %s: got %+v (%s), want %s", ref.ID, b.state(ref.ID).Health, b.state(ref.ID).State, want)
		}
	}
}

// expectRefused fails unless err is the refusal for a silent guest, and the
// sandbox runs on.
func (b *bench) expectRefused(ref sandbox.Ref, what string, err error) {
	b.t.Helper()
	if !fault.Is(err, fault.Unavailable) || fault.ReasonOf(err) != "guest_unresponsive" {
		b.t.Fatalf("%s of a sandbox whose guest does not answer: got %v, want unavailable guest_unresponsive", what, err)
	}
	if s := b.state(ref.ID); s.State != sandbox.Running || s.Health.State != sandbox.HealthUnresponsive || s.Health.Since.IsZero() {
		b.t.Fatalf("after a refused %s it is %s with health %+v, want running and unresponsive", what, s.State, s.Health)
	}
}

// refuses checks that operations which need a silent guest's answer are refused.
func (b *bench) refuses(ref sandbox.Ref) {
	b.t.Helper()
	_, err := b.Pause(b.t.Context(), ref)
	b.expectRefused(ref, "pause", err)
	_, err = b.PauseDisk(b.t.Context(), ref)
	b.expectRefused(ref, "pause without memory", err)
	_, err = b.Snapshot(b.t.Context(), ref, sandbox.NewSnapshotID(), true)
	b.expectRefused(ref, "snapshot", err)
}

// stopAgent has the guest's agent stop half a second from now.
const stopAgent = `(sleep 0.5; kill -STOP $(pidof wrenn-guest | tr ' ' '\n' | grep -vx 1)) >/dev/null 2>&1 &`

// TestStoppedGuestAgent: the guest's agent is stopped and stays so. Operations in
// flight end with an unknown outcome; with force memory and disk are kept; the
// resumed sandbox waits for its guest, and no copy of it is handed out.
func TestStoppedGuestAgent(t *testing.T) {
	t.Parallel()
	onEachRuntime(t, stoppedGuestAgent)
}

func stoppedGuestAgent(t *testing.T, r sandbox.Runtime) {
	b := newSilentBench(t, r, "wsilent")
	ref := b.create()
	b.sh(ref, "head -c 100000000 /dev/zero >/root/big")
	results := make(chan error, 2)
	go func() {
		_, err := b.trySh(t.Context(), ref, "sleep 600")
		results <- err
	}()
	b.awaitCommand(ref, "sleep 600")
	f, err := b.ReadFile(t.Context(), ref, guestclient.ReadFile{Path: "/root/big"})
	check(t, err)
	b.sh(ref, stopAgent)
	b.awaitHealth(ref, sandbox.HealthUnresponsive)
	go func() {
		_, err := io.Copy(io.Discard, f)
		_ = f.Close()
		results <- err
	}()
	b.refuses(ref)
	for range 2 {
		if err := <-results; !fault.Is(err, fault.Timeout) || fault.ReasonOf(err) != "guest_unresponsive" {
			t.Fatalf("a call in a guest that stopped answering: got %v, want timeout guest_unresponsive", err)
		}
	}

	snap := sandbox.NewSnapshotID()
	_, err = b.ForceSnapshot(t.Context(), ref, snap, false)
	check(t, err)
	if _, err := b.CreateFrom(t.Context(), newRef(), smallSpec, snap); fault.ReasonOf(err) != "guest_unresponsive" {
		t.Fatalf("a copy whose guest cannot be renewed: got %v, want guest_unresponsive", err)
	}

	s, err := b.ForcePause(t.Context(), ref)
	check(t, err)
	if s.State != sandbox.Paused || !s.Health.Forced || s.Health.State != sandbox.HealthUnresponsive {
		t.Fatalf("after a forced pause it is %s with health %+v, want paused, unresponsive and forced", s.State, s.Health)
	}
	ref.Generation++
	s, err = b.Resume(t.Context(), ref)
	check(t, err)
	if s.State != sandbox.Running || !s.Health.Forced || s.RestoreReport == nil || s.RestoreReport.Reseeded {
		t.Fatalf("resumed with a silent guest it is %s with health %+v and restore report %+v", s.State, s.Health, s.RestoreReport)
	}
	if _, err := b.trySh(t.Context(), ref, "true"); !fault.Is(err, fault.Unavailable) || fault.ReasonOf(err) != "guest_unresponsive" {
		t.Fatalf("exec in a guest that was not renewed: got %v, want unavailable guest_unresponsive", err)
	}

	_, err = b.ForcePause(t.Context(), ref)
	check(t, err)
	ref.Generation++
	s, err = b.Reboot(t.Context(), ref)
	check(t, err)
	if s.State != sandbox.Running || s.Health.Forced || s.Health.State != sandbox.HealthOK {
		t.Fatalf("booted from the disk of a forced pause it is %s with health %+v, want running and ok", s.State, s.Health)
	}
	if got := b.sh(ref, "echo works"); got != "works" {
		t.Fatalf("a command after the boot: got %q, want works", got)
	}
}

// TestGuestComesBack: the guest's network is down for a while, during which the
// sandbox is paused with force and resumed. When the network is up again the
// guest is renewed and the sandbox works.
func TestGuestComesBack(t *testing.T) {
	t.Parallel()
	b := newSilentBench(t, sandbox.RuntimeMicroVM, "wback")
	ref := b.create()
	b.sh(ref, counter)
	// Guest time: it does not advance while the sandbox is paused.
	b.sh(ref, `(sleep 0.5; ip link set eth0 down; sleep 40; ip link set eth0 up) >/dev/null 2>&1 &`)
	b.awaitHealth(ref, sandbox.HealthUnresponsive)
	b.refuses(ref)
	s, err := b.ForcePause(t.Context(), ref)
	check(t, err)
	if !s.Health.Forced {
		t.Fatalf("a forced pause does not say so: %+v", s.Health)
	}
	snap := sandbox.NewSnapshotID()
	_, err = b.Snapshot(t.Context(), ref, snap, false)
	check(t, err)
	ref.Generation++
	s, err = b.Resume(t.Context(), ref)
	check(t, err)
	if s.State != sandbox.Running {
		t.Fatalf("resumed while its network is down it is %s", s.State)
	}
	s = b.awaitHealth(ref, sandbox.HealthOK)
	if s.Health.Forced || s.RestoreReport == nil || !s.RestoreReport.Reseeded || s.RestoreReport.Generation != ref.Generation {
		t.Fatalf("after the guest came back: health %+v, restore report %+v; want renewed for generation %d", s.Health, s.RestoreReport, ref.Generation)
	}
	first := atoi(t, b.sh(ref, "cat /tmp/n"))
	if second := atoi(t, b.sh(ref, "sleep 0.5; cat /tmp/n")); second <= first {
		t.Fatalf("the counter went from %d to %d: the process did not continue", first, second)
	}
	// The next pause is an ordinary one.
	s, err = b.Pause(t.Context(), ref)
	check(t, err)
	if s.Health.Forced || s.Health.State != sandbox.HealthOK {
		t.Fatalf("an ordinary pause has health %+v", s.Health)
	}
}

// TestHaltedGuest: a guest that halted its kernel has not ended its VM.
func TestHaltedGuest(t *testing.T) {
	t.Parallel()
	b := newSilentBench(t, sandbox.RuntimeMicroVM, "whalt")
	ref := b.create()
	b.sh(ref, `(sleep 0.5; python3 -c 'import ctypes; ctypes.CDLL(None).reboot(0xcdef0123)') >/dev/null 2>&1 &`)
	b.awaitHealth(ref, sandbox.HealthUnresponsive)
	b.refuses(ref)
	check(t, b.Destroy(t.Context(), ref, ""))
	b.nothingLeft()
}

// TestStoppedVMM: a VMM process that is stopped from outside, also over a
// restart of the agent, is no crash: the sandbox works again once its VM continues,
// and can be destroyed while it does not.
func TestStoppedVMM(t *testing.T) {
	t.Parallel()
	onEachRuntime(t, stoppedVMM)
}

func stoppedVMM(t *testing.T, r sandbox.Runtime) {
	b := newSilentBench(t, r, "wvmm")
	ref := b.create()
	found, err := b.deps.Drivers.Find(b.dir)
	check(t, err)
	pid := found[0].PID
	check(t, syscall.Kill(pid, syscall.SIGSTOP))
	b.refuses(ref)
	if _, err := b.ForcePause(t.Context(), ref); fault.ReasonOf(err) != "vmm_unresponsive" {
		t.Fatalf("a forced pause of a stopped VMM: got %v, want vmm_unresponsive", err)
	}
	check(t, syscall.Kill(pid, syscall.SIGCONT))
	b.awaitHealth(ref, sandbox.HealthOK)
	b.sh(ref, "true")

	check(t, syscall.Kill(pid, syscall.SIGSTOP))
	b.close()
	b.open()
	if s := b.state(ref.ID); s.State != sandbox.Running || s.Health.State != sandbox.HealthUnresponsive {
		t.Fatalf("a stopped VMM after a restart of the agent: %s with health %+v, want running and unresponsive", s.State, s.Health)
	}
	check(t, syscall.Kill(pid, syscall.SIGCONT))
	s := b.awaitHealth(ref, sandbox.HealthOK)
	b.sh(ref, "true")
	if s.RestoreReport == nil || !s.RestoreReport.NewIdentity {
		t.Fatalf("a restart of the agent changed what the last start has measured: %+v", s.RestoreReport)
	}

	check(t, syscall.Kill(pid, syscall.SIGSTOP))
	begun := time.Now()
	check(t, b.Destroy(t.Context(), ref, ""))
	t.Logf("destroying a stopped VMM took %v", time.Since(begun))
	b.nothingLeft()
}
