package host_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestCoreSnapshotWithoutMemory: copies boot from the disk of a sandbox that runs or was
// paused without memory, need no snapshot afterwards, and can be paused in either way.
func TestCoreSnapshotWithoutMemory(t *testing.T) {
	for _, k := range shapes(t) {
		for _, paused := range []bool{false, true} {
			name := k.name + "/running"
			if paused {
				name = k.name + "/paused"
			}
			t.Run(name, func(t *testing.T) {
				c := newCoreOf(t, k)
				ref := c.create()
				if paused {
					pauseSubjectsDisk(c, ref)
				}
				snap, err := c.SnapshotDisk(t.Context(), ref, coreSnapshot, false)
				check(t, err)
				if !snap.DiskOnly {
					t.Error("the snapshot claims to have a memory")
				}
				c.restart()
				child := newRef()
				_, err = c.CreateFrom(t.Context(), child, coreSpec, coreSnapshot)
				check(t, err)
				if users := usersOf(t, c.Manager, coreSnapshot); users != 0 {
					t.Errorf("the snapshot has %d users after the boot, want none", users)
				}
				check(t, c.DeleteSnapshot(t.Context(), coreSnapshot))
				copiesOfACopy(c, child, string(ref.ID))
				for _, pause := range []func(*core, sandbox.Ref){pauseSubject, pauseSubjectsDisk} {
					if got := c.read(child, mark); got != string(ref.ID) {
						t.Errorf("the copy's file holds %q, want its original's", got)
					}
					pause(c, child)
					child.Generation++
					_, err = c.Resume(t.Context(), child)
					check(t, err)
				}
				c.sound()
				c.empty()
			})
		}
	}
}

// copiesOfACopy checks that a sandbox that has booted from a snapshot can be copied in either
// way, as for a fork.
func copiesOfACopy(c *core, of sandbox.Ref, content string) {
	c.t.Helper()
	for id, take := range map[sandbox.SnapshotID]func(context.Context, sandbox.Ref, sandbox.SnapshotID, bool) (host.Snapshot, error){
		"core0000000000000000full": c.Snapshot, "core0000000000000000disk": c.SnapshotDisk,
	} {
		_, err := take(c.t.Context(), of, id, true)
		check(c.t, err)
		copied := newRef()
		_, err = c.CreateFrom(c.t.Context(), copied, coreSpec, id)
		check(c.t, err)
		if got := c.read(copied, mark); got != content {
			c.t.Errorf("in the copy by %s the file holds %q, want %q", id, got, content)
		}
		check(c.t, c.DeleteSnapshot(c.t.Context(), id))
		check(c.t, c.Destroy(c.t.Context(), copied, ""))
	}
}

// TestCoreCallsDuringASnapshotWithoutMemory: calls that are under way continue after the
// snapshot, and those that arrive meanwhile wait for its end.
func TestCoreCallsDuringASnapshotWithoutMemory(t *testing.T) {
	for _, k := range shapes(t) {
		t.Run(k.name, func(t *testing.T) {
			c := newCoreOf(t, k)
			ref := c.create()
			dir := t.TempDir() // fake guests run on this machine
			begun, end := filepath.Join(dir, "begun"), filepath.Join(dir, "end")
			results := make(chan error, 4)
			go func() {
				out, err := c.sh(ref, "touch "+begun+"; until test -e "+end+"; do sleep 0.05; done; echo done")
				if err == nil && out != "done" {
					err = fmt.Errorf("the command said %q, want done", out)
				}
				results <- err
			}()
			reader, writer := io.Pipe()
			go func() {
				_, err := c.WriteFile(t.Context(), ref, guestclient.WriteFile{Path: "upload"}, reader)
				results <- err
			}()
			_, err := io.WriteString(writer, "one ")
			check(t, err)
			for _, err := os.Stat(begun); err != nil; _, err = os.Stat(begun) {
				time.Sleep(time.Millisecond)
			}
			reached, unblock := c.hook.hold(journal.StepSnapshotSave)
			go func() {
				_, err := c.SnapshotDisk(t.Context(), ref, coreSnapshot, false)
				results <- err
			}()
			<-reached
			go func() {
				out, err := c.sh(ref, "echo late")
				if err == nil && out != "late" {
					err = fmt.Errorf("the later command said %q, want late", out)
				}
				results <- err
			}()
			unblock()
			_, err = io.WriteString(writer, "two")
			check(t, errors.Join(err, writer.Close(), os.WriteFile(end, nil, 0o600)))
			for range cap(results) {
				check(t, <-results)
			}
			if got := c.read(ref, "upload"); got != "one two" {
				t.Errorf("the upload is %q, want both parts", got)
			}
			c.sound()
			c.empty()
		})
	}
}

// earlierGuest is a connection to a guest whose agent is of a version that ignores the
// message of a Hold.
type earlierGuest struct {
	net.Conn
	quiesces *atomic.Int32
}

// Write takes whole frames, as clients write calls.
func (g earlierGuest) Write(b []byte) (int, error) {
	sent := b
	switch guestwire.Type(b[0]) {
	case guestwire.Quiesce:
		g.quiesces.Add(1)
	case guestwire.Hold:
		call := b[5:] // two bytes of length, the token, and the message
		call = call[:2+binary.BigEndian.Uint16(call)]
		sent = append(guestwire.AppendHeader(nil, guestwire.Hold, len(call)), call...)
	}
	if _, err := g.Conn.Write(sent); err != nil {
		return 0, err
	}
	return len(b), nil
}

// TestCoreSnapshotWithoutMemoryOfAnEarlierGuest: a guest that cannot write its file systems
// back while it is held is sealed for that, and opened again.
func TestCoreSnapshotWithoutMemoryOfAnEarlierGuest(t *testing.T) {
	for _, k := range shapes(t) {
		t.Run(k.name, func(t *testing.T) {
			c := newCoreOf(t, k)
			ref := c.create()
			var quiesces atomic.Int32
			check(t, c.Close())
			c.dialed = func(conn net.Conn) net.Conn { return earlierGuest{conn, &quiesces} }
			c.open()
			takeDiskSnapshot(c, ref)
			if n := quiesces.Load(); n != 1 {
				t.Errorf("the guest was sealed %d times, want once", n)
			}
			if out, err := c.sh(ref, "echo on"); err != nil || out != "on" {
				t.Errorf("a command after the snapshot: %q, %v, want on", out, err)
			}
			child := newRef()
			_, err := c.CreateFrom(t.Context(), child, coreSpec, coreSnapshot)
			check(t, err)
			if got := c.read(child, mark); got != string(ref.ID) {
				t.Errorf("the copy's file holds %q, want its original's", got)
			}
			check(t, c.DeleteSnapshot(t.Context(), coreSnapshot))
			c.sound()
			c.empty()
		})
	}
}

// deafGuest is a connection to a guest that never answers a Hold.
type deafGuest struct{ net.Conn }

// Write takes whole frames, as clients write calls.
func (g deafGuest) Write(b []byte) (int, error) {
	if guestwire.Type(b[0]) == guestwire.Hold {
		return len(b), nil
	}
	return g.Conn.Write(b)
}

// TestCoreSnapshotWithoutMemoryOfASilentGuest: a guest that does not write its file systems back
// in time fails the snapshot as one that does not answer, and continues.
func TestCoreSnapshotWithoutMemoryOfASilentGuest(t *testing.T) {
	for _, k := range shapes(t) {
		t.Run(k.name, func(t *testing.T) {
			c := newCoreOf(t, k)
			ref := c.create()
			host.SetFreezeGrace(t, time.Millisecond)
			check(t, c.Close())
			c.change = func(cfg *host.Config) { cfg.BootTimeout = time.Second }
			c.dialed = func(conn net.Conn) net.Conn { return deafGuest{conn} }
			c.open()
			_, err := c.SnapshotDisk(t.Context(), ref, coreSnapshot, false)
			if !fault.Is(err, fault.Unavailable) || fault.ReasonOf(err) != "guest_unresponsive" {
				t.Errorf("snapshot of a guest that does not answer: got %v, want unavailable guest_unresponsive", err)
			}
			if out, err := c.sh(ref, "echo on"); err != nil || out != "on" {
				t.Errorf("a command after the snapshot: %q, %v, want on", out, err)
			}
			c.sound()
			c.empty()
		})
	}
}

// TestCoreCopyWhoseStartEndsItsVM: a create from a snapshot without memory whose start command
// ends its VM boots again without it, and its report says so.
func TestCoreCopyWhoseStartEndsItsVM(t *testing.T) {
	for _, k := range shapes(t) {
		t.Run(k.name, func(t *testing.T) {
			c := newCoreOf(t, k)
			ref := c.create()
			asked := filepath.Join(t.TempDir(), "asked")
			start := server("sh", "-c", "touch "+asked+"; exit 1") // fake guests run on this machine
			start.ReadyTimeout = time.Hour
			check(t, c.StartAgain(t.Context(), ref, start))
			takeDiskSnapshot(c, ref)
			check(t, c.Destroy(t.Context(), ref, ""))
			child := newRef()
			result := make(chan error, 1)
			go func() {
				_, err := c.CreateFrom(t.Context(), child, coreSpec, coreSnapshot)
				result <- err
			}()
			for _, err := os.Stat(asked); err != nil; _, err = os.Stat(asked) {
				time.Sleep(time.Millisecond)
			}
			for _, vm := range c.machine.Records() {
				c.machine.End(vm, vmm.CauseGuestReset)
			}
			check(t, <-result)
			s := c.of(child)
			if s.State != sandbox.Running || s.RestoreReport.Steps["start_command_failed"] == 0 {
				t.Errorf("%s, steps %v; want running, and the failed start in the report", s.State, s.RestoreReport.Steps)
			}
			if got := c.read(child, mark); got != string(ref.ID) {
				t.Errorf("the copy's file holds %q, want its original's", got)
			}
			check(t, c.StartAgain(t.Context(), child, server("true")))
			pauseSubjectsDisk(c, child)
			child.Generation++
			_, err := c.Resume(t.Context(), child)
			check(t, err)
			if steps := serves(t, c.Manager, child); steps["start_command"] == 0 {
				t.Errorf("steps of the next boot: %v, want the start", steps)
			}
			check(t, c.DeleteSnapshot(t.Context(), coreSnapshot))
			c.sound()
			c.empty()
		})
	}
}

func usersOf(t *testing.T, m *host.Manager, id sandbox.SnapshotID) int {
	t.Helper()
	all, err := m.Snapshots()
	check(t, err)
	for _, s := range all {
		if s.ID == id {
			return s.Users
		}
	}
	t.Fatalf("there is no snapshot %s", id)
	return 0
}

// TestCoreSnapshotWithoutMemoryRefused: the disk of a pause with memory is not complete, and
// a pause without memory has none to copy. A request that differs from that of the snapshot
// with its id is not the same request.
func TestCoreSnapshotWithoutMemoryRefused(t *testing.T) {
	for _, k := range shapes(t) {
		t.Run(k.name, func(t *testing.T) {
			c := newCoreOf(t, k)
			full, disk, running := c.create(), c.create(), c.create()
			pauseSubject(c, full)
			pauseSubjectsDisk(c, disk)
			takeDiskSnapshot(c, running)
			_, withMemory := c.SnapshotDisk(t.Context(), full, "core00000000000000000001", false)
			_, without := c.Snapshot(t.Context(), disk, "core00000000000000000002", false)
			_, other := c.Snapshot(t.Context(), running, coreSnapshot, false)
			for _, refused := range []struct {
				err    error
				kind   fault.Kind
				reason string
			}{
				{withMemory, fault.WrongState, "paused_with_memory"},
				{without, fault.WrongState, "paused_without_memory"},
				{other, fault.Exists, "snapshot_exists"},
			} {
				if !fault.Is(refused.err, refused.kind) || fault.ReasonOf(refused.err) != refused.reason {
					t.Errorf("%v, want %s", refused.err, refused.reason)
				}
			}
			if all, err := c.Snapshots(); err != nil || len(all) != 1 {
				t.Errorf("%d snapshots (%v), want only the first", len(all), err)
			}
			c.sound()
			c.empty()
		})
	}
}
