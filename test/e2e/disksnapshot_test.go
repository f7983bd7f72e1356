package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/client"
)

// testDiskSnapshots takes a snapshot without memory. The sandbox goes on, and what is made
// from the snapshot has its files and its environment, and none of its processes.
func testDiskSnapshots(t *testing.T, s *server) {
	in := small
	in.Env = map[string]string{"KEPT": "yes"}
	sb := create(t, s.Client, in)
	sh(t, s.Client, sb.ID, counter)
	// Nothing of this has been written back yet.
	sh(t, s.Client, sb.ID, "echo memory >/dev/shm/file; echo disk >/root/file")
	before := sh(t, s.Client, sb.ID, "cat /tmp/n")
	snap, err := s.CreateSnapshot(t.Context(), sb.ID, client.SnapshotRequest{Name: "files", Memory: new(bool)})
	check(t, err)
	if snap.Memory || snap.Status != client.SnapshotReady || snap.Name != "files" || snap.Bytes == 0 {
		t.Fatalf("snapshot %+v, want a ready one without memory", snap)
	}
	goesOn(t, s.Client, sb.ID, before)
	list, err := s.ListSnapshotsOf(t.Context(), sb.ID, client.SnapshotOptions{})
	check(t, err)
	if !slices.ContainsFunc(list.Snapshots, func(s client.Snapshot) bool { return s.ID == snap.ID && !s.Memory }) {
		t.Errorf("the list is %+v, want the snapshot in it, without memory", list.Snapshots)
	}
	_, err = s.Pause(t.Context(), sb.ID)
	check(t, err)
	_, err = s.CreateSnapshot(t.Context(), sb.ID, client.SnapshotRequest{Memory: new(bool)})
	wantFailure(t, err, 409, "paused_with_memory")

	name := "files-" + strings.ToLower(snap.ID[:8])
	_, err = s.TemplateFromSnapshot(t.Context(), snap.ID, name)
	check(t, err)
	booted := create(t, s.Client, client.CreateRequest{Template: name, TimeoutSec: new(int)})
	fresh(t, *booted)
	forked, err := s.Fork(t.Context(), booted.ID, client.ForkRequest{Count: 1})
	check(t, err)
	own(t, s.Client, forked.Sandboxes...)
	check(t, s.RemoveTemplate(t.Context(), snap.ID))
	check(t, s.DeleteSnapshot(t.Context(), snap.ID)) // neither is based on it
	for _, sb := range append(forked.Sandboxes, *booted) {
		got := sh(t, s.Client, sb.ID, "cat /root/file; echo $KEPT; ls /dev/shm/file 2>/dev/null; pgrep -x setsid; true")
		if got != "disk\nyes" {
			t.Errorf("%s has %q, want the file and the environment alone", sb.ID, got)
		}
	}
}
