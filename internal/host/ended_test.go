package host

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/instance"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// TestEndedAreBounded: of too many or too large records the newest are kept, and those of
// long ago are not shown.
func TestEndedAreBounded(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct{ count, args, least, most int }{
		"few": {3, 10, 3, 3}, "many": {maxEnded + 100, 10, maxEnded, maxEnded}, "large": {200, 100 << 10, 1, 10},
	} {
		path := filepath.Join(t.TempDir(), "processes")
		var records []*guestv1.ProcessRecord
		for i := range c.count {
			records = append(records, &guestv1.ProcessRecord{
				Id: fmt.Sprint(i), Args: []string{strings.Repeat("x", c.args)}, EndedUnixNano: now.UnixNano(),
			})
		}
		if err := writeEnded(path, records); err != nil {
			t.Fatal(name, err)
		}
		got, err := readEnded(path)
		if err != nil || len(got) < c.least || len(got) > c.most || got[len(got)-1].GetId() != fmt.Sprint(c.count-1) {
			t.Errorf("%s: %d records, %v; want from %d to %d with the newest last", name, len(got), err, c.least, c.most)
		}
		if left := fresh(got, now.Add(endedRetention+time.Second)); len(left) != 0 {
			t.Errorf("%s: %d records are shown after their time", name, len(left))
		}
	}
}

// TestAttachToAProcessThatABootHasEnded: a reader gets its end, as from the guest.
func TestAttachToAProcessThatABootHasEnded(t *testing.T) {
	m := &machine{ended: []*guestv1.ProcessRecord{{Id: "gone", Rebooted: true, EndedUnixNano: time.Now().UnixNano()}}}
	unknown := fault.New(fault.NotFound, reasonNoProcess, "there is no process with this id")
	var events []*guestv1.AttachEvent
	send := func(e *guestv1.AttachEvent) error { events = append(events, e); return nil }
	if err := m.attachEnded("gone", unknown, send); err != nil || len(events) != 2 || !events[1].GetProcess().GetRebooted() {
		t.Errorf("attach: %v, events %v; want its record twice", err, events)
	}
	for id, cause := range map[string]error{"other": unknown, "gone": errCut()} {
		if err := m.attachEnded(id, cause, send); err != cause || len(events) != 2 {
			t.Errorf("attach to %s after %v: %v, want the same error", id, cause, err)
		}
	}
}

// fullVM is a VM of a driver that keeps the disk, with a limit for boots of 10 MiB.
type fullVM struct{ vmm.VM }

func (fullVM) SaveDisk(context.Context, string) error { return nil }
func (fullVM) BootableBytes() int64                   { return 10 << 20 }

// TestDiskTooLargeToBoot: a sandbox that may not be able to boot is not paused without
// memory. A disk that is a file has no limit.
func TestDiskTooLargeToBoot(t *testing.T) {
	kept, file := body{Instance: &instance.Instance{VM: fullVM{}}}, body{Instance: &instance.Instance{}}
	for _, c := range []struct {
		b       *body
		content int64
		want    string
	}{{&kept, 10 << 20, ""}, {&kept, 10<<20 + 1, "disk_too_large"}, {&file, 1 << 40, ""}} {
		if got := fault.ReasonOf(c.b.checkBootable(c.content)); got != c.want {
			t.Errorf("%d bytes: %q, want %q", c.content, got, c.want)
		}
	}
}

// TestEndedOnce: a process that the guest lists has no second record.
func TestEndedOnce(t *testing.T) {
	of := func(ids ...string) (out []*guestv1.ProcessRecord) {
		for _, id := range ids {
			out = append(out, &guestv1.ProcessRecord{Id: id})
		}
		return out
	}
	got := without(of("a", "b", "c"), of("b", "d"))
	if len(got) != 2 || got[0].GetId() != "a" || got[1].GetId() != "c" {
		t.Errorf("without b and d: %v, want a and c", got)
	}
}
