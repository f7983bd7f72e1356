package boot

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLedger(t *testing.T) {
	written, err := NewLedger()
	if err != nil {
		t.Fatal(err)
	}
	read := OpenLedger(written.file)
	if _, err := read.find(7); !errors.Is(err, errNoEntry) {
		t.Errorf("an empty ledger: got %v, want errNoEntry", err)
	}
	note := func(pid int, status unix.WaitStatus) {
		t.Helper()
		if err := written.note(pid, status); err != nil {
			t.Fatal(err)
		}
	}
	note(7, 3<<8)
	note(8, 9)
	for pid, want := range map[int]unix.WaitStatus{7: 3 << 8, 8: 9} {
		if got, err := read.find(pid); err != nil || got != want {
			t.Errorf("process %d: got %v, %v, want %v", pid, got, err, want)
		}
	}
	note(7, 15)
	if got, err := read.find(7); err != nil || got != 15 {
		t.Errorf("a number used again: got %v, %v, want the later end", got, err)
	}
	if err := written.begin(1<<63, 7, ""); err != nil {
		t.Fatal(err)
	}
	if pid, group, err := read.begun(1 << 63); err != nil || pid != 7 || group != "" {
		t.Errorf("the process of a ticket: got %v, %q, %v, want 7", pid, group, err)
	}
	if err := written.begin(2, 0, "agent1-2"); err != nil {
		t.Fatal(err)
	}
	if pid, group, err := read.begun(2); err != nil || pid != 0 || group != "agent1-2" {
		t.Errorf("a command that is being started: got %v, %q, %v, want its group", pid, group, err)
	}
	if err := written.begin(3, 0, "a name that no group can have"); err == nil {
		t.Error("a name that does not fit was written")
	}
	if _, _, err := read.begun(7); !errors.Is(err, errNoEntry) {
		t.Errorf("the process of no ticket: got %v, want errNoEntry", err)
	}
	for range ledgerEntries {
		note(1000, 0)
	}
	if _, err := read.find(8); !errors.Is(err, errNoEntry) {
		t.Errorf("an end that was overwritten: got %v, want errNoEntry", err)
	}
}
