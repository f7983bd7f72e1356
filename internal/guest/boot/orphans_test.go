package boot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// newOrphans returns Orphans over a proc file system of files.
func newOrphans(t *testing.T) (*Orphans, *Ledger) {
	t.Helper()
	ledger, err := NewLedger()
	if err != nil {
		t.Fatal(err)
	}
	o := NewOrphans(ledger, "agent2-")
	o.proc, o.users = t.TempDir(), filepath.Join(t.TempDir(), "user")
	for ticket := 10; ticket <= 21; ticket++ {
		o.CommandStarted(uint64(ticket), ticket) // equal numbers, for short
	}
	for pid, group := range map[string]string{"10": "/user/agent1-3", "11": "/user/agent2-1", "12": "/agent"} {
		if err := errors.Join(
			os.MkdirAll(filepath.Join(o.proc, pid), 0o755),
			os.WriteFile(filepath.Join(o.proc, pid, "cgroup"), []byte("0::"+group+"\n"), 0o644),
			os.MkdirAll(filepath.Join(o.users, filepath.Base(group)), 0o755),
		); err != nil {
			t.Fatal(err)
		}
	}
	// The kernel makes it; a file that the product made could not be read without privileges.
	if err := os.WriteFile(filepath.Join(o.users, "agent1-3", "cgroup.kill"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return o, ledger
}

func TestEndOfAnOrphan(t *testing.T) {
	o, ledger := newOrphans(t)
	if err := ledger.note(20, 9); err != nil {
		t.Fatal(err)
	}
	exit, err := o.OrphanStatus(t.Context(), 20)
	if err != nil || exit != 9 {
		t.Errorf("a process in the ledger: got %v, %v, want signal 9", exit, err)
	}
	for _, ticket := range []uint64{11, 12, 21, 99} {
		if _, err := o.OrphanStatus(t.Context(), ticket); !fault.Is(err, fault.NotFound) {
			t.Errorf("ticket %d, which is no orphan's: got %v, want NotFound", ticket, err)
		}
		if _, err := os.Stat(filepath.Join(o.users, "agent2-1", "cgroup.kill")); err == nil {
			t.Error("a command of the present agent was killed")
		}
	}
}

func TestOrphanThatRunsIsKilled(t *testing.T) {
	o, ledger := newOrphans(t)
	kill := filepath.Join(o.users, "agent1-3", "cgroup.kill")
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gave up")
	cancel(gone)
	if _, err := o.OrphanStatus(ctx, 10); !errors.Is(err, gone) {
		t.Errorf("got %v, want the cause of the context's end", err)
	}
	if b, err := os.ReadFile(kill); err != nil || string(b) != "1" {
		t.Fatalf("the orphan's group was not killed: %q, %v", b, err)
	}
	// Init reaps it, and its directory in proc goes.
	if err := errors.Join(ledger.note(10, 9), os.RemoveAll(filepath.Join(o.proc, "10"))); err != nil {
		t.Fatal(err)
	}
	if exit, err := o.OrphanStatus(t.Context(), 10); err != nil || exit != 9 {
		t.Errorf("got %v, %v, want signal 9", exit, err)
	}
}

func TestEndOfACommandThatWasBeingStarted(t *testing.T) {
	o, _ := newOrphans(t)
	before := NewOrphans(o.ledger, "agent1-")
	before.CommandStarting(30, "3") // its group is there
	before.CommandStarting(31, "4") // its group has gone
	o.CommandStarting(32, "5")
	procs := filepath.Join(o.users, "agent1-3", "cgroup.procs")
	if err := os.WriteFile(procs, []byte("77\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := o.OrphanStatus(ctx, 30); !errors.Is(err, context.Canceled) {
		t.Errorf("a command that still runs: got %v, want to wait for it", err)
	}
	if b, err := os.ReadFile(filepath.Join(o.users, "agent1-3", "cgroup.kill")); err != nil || string(b) != "1" {
		t.Errorf("the group was not killed: %q, %v", b, err)
	}
	if err := os.WriteFile(procs, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, ticket := range []uint64{30, 31} {
		if status, err := o.OrphanStatus(t.Context(), ticket); err != nil || status != 9 {
			t.Errorf("ticket %d: got %v, %v, want killed", ticket, status, err)
		}
	}
	if _, err := o.OrphanStatus(t.Context(), 32); !fault.Is(err, fault.NotFound) {
		t.Errorf("a command of this agent: got %v, want NotFound", err)
	}
}
