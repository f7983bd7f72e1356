package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestVMsOutliveTheAgent restarts the agent under a running and a paused sandbox.
func TestVMsOutliveTheAgent(t *testing.T) { onEachRuntime(t, vmsOutliveTheAgent) }

func vmsOutliveTheAgent(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wrest")
	running, paused := b.create(), b.create()
	b.sh(running, counter)
	_, err := b.Pause(t.Context(), paused)
	check(t, err)
	b.close()
	b.open()
	if s := b.state(running.ID); s.State != sandbox.Running {
		t.Fatalf("the running sandbox is %q (%s) after a restart", s.State, s.StopReason)
	}
	if s := b.state(paused.ID); s.State != sandbox.Paused {
		t.Fatalf("the paused sandbox is %q after a restart", s.State)
	}
	if first, second := b.goesOn(running); second <= first {
		t.Fatal("the process in the adopted VM does not run")
	}
	// An adopted VM's end is noticed, though it is no child of this agent.
	found, err := b.deps.Drivers.Find(b.dir)
	check(t, err)
	b.expectEnd(running.ID, sandbox.ReasonVMMCrash, func() { check(t, syscall.Kill(found[0].PID, syscall.SIGKILL)) })
}

// expectEnd does something and waits for the event that says the sandbox ended.
func (b *bench) expectEnd(id sandbox.ID, reason sandbox.StopReason, do func()) {
	b.t.Helper()
	changes, cancel := b.Subscribe()
	defer cancel()
	do()
	timeout := time.After(hosttest.Patience(b.t, time.Minute))
	for {
		select {
		case s := <-changes:
			if s.Ref.ID == id && s.State == sandbox.Stopped {
				if s.StopReason != reason {
					b.t.Fatalf("it ended by %q, want %q", s.StopReason, reason)
				}
				return
			}
		case <-timeout:
			b.t.Fatalf("the end of %s was not noticed", id)
		}
	}
}

func TestEndsThatNobodyAskedFor(t *testing.T) { onEachRuntime(t, endsThatNobodyAskedFor) }

func endsThatNobodyAskedFor(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wends")
	t.Run("killed VMM during exec", func(t *testing.T) {
		ref := b.create()
		found, err := b.deps.Drivers.Find(b.dir)
		check(t, err)
		result := make(chan error, 1)
		go func() {
			_, err := b.trySh(t.Context(), ref, "sleep 60")
			result <- err
		}()
		b.awaitCommand(ref, "sleep 60")
		b.expectEnd(ref.ID, sandbox.ReasonVMMCrash, func() { check(t, syscall.Kill(found[0].PID, syscall.SIGKILL)) })
		if err := <-result; !fault.Is(err, fault.WrongState) && !fault.Is(err, fault.HostFailed) {
			t.Fatalf("exec in a VM that died: %v", err)
		}
		check(t, b.Destroy(t.Context(), ref, ""))
	})
	t.Run("poweroff", func(t *testing.T) {
		ref := b.create()
		b.expectEnd(ref.ID, sandbox.ReasonGuestExit, func() {
			off := "echo o >/proc/sysrq-trigger; sleep 30"
			if r == sandbox.RuntimeGVisor {
				off = "kill -TERM 1; sleep 30"
			}
			_, _ = b.trySh(t.Context(), ref, off)
		})
		check(t, b.Destroy(t.Context(), ref, ""))
	})
	t.Run("kernel panic", func(t *testing.T) {
		if r == sandbox.RuntimeGVisor {
			t.Skip("gVisor has no key for a panic")
		}
		ref := b.create()
		b.expectEnd(ref.ID, sandbox.ReasonGuestCrash, func() {
			_, _ = b.trySh(t.Context(), ref, "echo c >/proc/sysrq-trigger; sleep 30")
		})
		check(t, b.Destroy(t.Context(), ref, ""))
	})
	t.Run("idle", func(t *testing.T) {
		ref := newRef()
		spec := smallSpec
		spec.Timeout = 2 * time.Second
		_, err := b.Create(t.Context(), ref, spec)
		check(t, err)
		b.sh(ref, "sleep 3") // a command under way is no idleness
		b.expectEnd(ref.ID, sandbox.ReasonExpired, func() {})
		check(t, b.Destroy(t.Context(), ref, ""))
	})
	b.nothingLeft()
}

// awaitCommand returns once a process with command is seen in the guest.
func (b *bench) awaitCommand(ref sandbox.Ref, command string) {
	b.t.Helper()
	b.sh(ref, "until pgrep -fx '"+command+"' >/dev/null; do sleep 0.05; done")
}

func TestPauseDuringExecAndTransfer(t *testing.T) { onEachRuntime(t, pauseDuringExecAndTransfer) }

func pauseDuringExecAndTransfer(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wcut")
	ref := b.create()
	result := make(chan error, 2)
	go func() {
		_, err := b.trySh(t.Context(), ref, "touch /tmp/begun; until [ -e /tmp/go ]; do sleep 0.1; done; echo done >/root/done")
		result <- err
	}()
	b.sh(ref, "until [ -e /tmp/begun ]; do sleep 0.05; done")
	reader, writer := io.Pipe()
	go func() {
		_, err := b.WriteFile(t.Context(), ref, guestclient.WriteFile{Path: "/root/half"}, reader)
		result <- err
	}()
	_, err := io.WriteString(writer, "the first half")
	check(t, err)
	_, err = b.Pause(t.Context(), ref)
	check(t, err)
	_ = writer.CloseWithError(errors.New("the other half never came"))
	for range 2 {
		if err := <-result; !fault.Is(err, fault.WrongState) || fault.ReasonOf(err) != "sandbox_paused" {
			t.Fatalf("a call cut by a pause: %v", err)
		}
	}
	ref.Generation++
	_, err = b.Resume(t.Context(), ref)
	check(t, err)
	if got := b.sh(ref, "touch /tmp/go; until [ -e /root/done ]; do sleep 0.1; done; cat /root/done"); got != "done" {
		t.Fatal("the command did not continue after the resume")
	}
	if got := b.sh(ref, "ls /root"); got != "done" {
		t.Fatalf("half an upload was left: %q", got)
	}
}

func TestCallerGoesAway(t *testing.T) { onEachRuntime(t, callerGoesAway) }

func callerGoesAway(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wgone")
	ref := b.create()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := b.trySh(ctx, ref, "sleep 600")
		result <- err
	}()
	b.awaitCommand(ref, "sleep 600")
	cancel()
	if err := <-result; err == nil {
		t.Fatal("a cancelled exec succeeded")
	}
	b.sh(ref, "while pidof sleep >/dev/null; do sleep 0.05; done")
}

func TestBurst(t *testing.T) { onEachRuntime(t, burst) }

func burst(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wburst")
	const n = 6
	var wg sync.WaitGroup
	errs := make([]error, n)
	refs := make([]sandbox.Ref, n)
	for i := range n {
		refs[i] = newRef()
		wg.Go(func() { _, errs[i] = b.Create(t.Context(), refs[i], smallSpec) })
	}
	wg.Wait()
	check(t, errors.Join(errs...))
	seen := make(map[string]bool)
	for _, ref := range refs {
		id := b.sh(ref, "cat /etc/machine-id; hostname; cat /proc/sys/kernel/random/uuid; head -c 16 /dev/urandom | od -An -tx1")
		for line := range strings.Lines(id) {
			if seen[line] {
				t.Fatalf("two sandboxes share %q", line)
			}
			seen[line] = true
		}
		s := b.state(ref.ID)
		if seen[s.HostIP] {
			t.Fatalf("two sandboxes share the host address %s", s.HostIP)
		}
		seen[s.HostIP] = true
	}
}

// TestDamagedPauseIsRefused damages each file of a pause in turn.
func TestDamagedPauseIsRefused(t *testing.T) { onEachRuntime(t, damagedPauseIsRefused) }

func damagedPauseIsRefused(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wdam")
	ref := b.create()
	b.sh(ref, "echo kept >/dev/shm/kept")
	_, err := b.Pause(t.Context(), ref)
	check(t, err)
	dir := b.dir + "/sandboxes/" + string(ref.ID) + "/pause-1/"
	ref.Generation++
	names := []string{"manifest.json"}
	for _, f := range b.deps.Drivers.Preferred().Files(vmm.Delta) {
		names = append(names, f.Name)
	}
	for _, name := range names {
		path := dir + name
		data, err := os.ReadFile(path)
		check(t, err)
		for _, at := range []int{0, len(data) / 2, len(data) - 1} {
			data[at] ^= 1
			check(t, os.WriteFile(path, data, 0o600))
			_, err := b.Resume(t.Context(), ref)
			if reason := fault.ReasonOf(err); reason != "snapshot_damaged" && reason != "snapshot_incompatible" && name != "manifest.json" || err == nil {
				t.Fatalf("resume with byte %d of %s changed: %v", at, name, err)
			}
			if s := b.state(ref.ID); s.State != sandbox.Paused {
				t.Fatalf("after a refused resume it is %s", s.State)
			}
			data[at] ^= 1
			check(t, os.WriteFile(path, data, 0o600))
		}
	}
	_, err = b.Resume(t.Context(), ref)
	check(t, err)
	if got := b.sh(ref, "cat /dev/shm/kept"); got != "kept" {
		t.Fatal("the sandbox does not work after the pause was restored")
	}
}

// TestForeignSnapshotIsRefused: a snapshot from another kind of host is refused
// before it is loaded, and the error names the difference.
func TestForeignSnapshotIsRefused(t *testing.T) { onEachRuntime(t, foreignSnapshotIsRefused) }

func foreignSnapshotIsRefused(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wfor")
	ref := b.create()
	_, err := b.Pause(t.Context(), ref)
	check(t, err)
	path := b.dir + "/sandboxes/" + string(ref.ID) + "/pause-1/manifest.json"
	whole, err := os.ReadFile(path)
	check(t, err)
	check(t, os.Remove(strings.TrimSuffix(path, ".json")+".sha256")) // as in versions before 0.3
	ref.Generation++
	for _, key := range []string{"acceleration", "cpu", "devices", "memory_mb", "vcpus"} {
		var mf map[string]any
		check(t, json.Unmarshal(whole, &mf))
		print := mf["fingerprint"].(map[string]any)
		if print[key] == nil {
			t.Fatalf("the snapshot does not say its %s", key)
		}
		print[key] = "another"
		data, err := json.Marshal(mf)
		check(t, err)
		check(t, os.WriteFile(path, data, 0o600))
		_, err = b.Resume(t.Context(), ref)
		if fault.ReasonOf(err) != "snapshot_incompatible" || !strings.Contains(fault.As(err).Public, key) {
			t.Fatalf("resume with another %s: %v", key, err)
		}
	}
	check(t, os.WriteFile(path, whole, 0o600))
	_, err = b.Resume(t.Context(), ref)
	check(t, err)
}
