package storetest

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func testSnapshotThereAndBack(t *testing.T, open Open) {
	s := open(t)
	Host(t, s, "h", 4)
	in := NewSnapshot("h")
	in.Name, in.Metadata = "a name", map[string]string{"k": "\"ü"}
	in.Spec.TemplateID, in.Spec.TemplateRef, in.Spec.User, in.Spec.Workdir = "tid", "web:v1", "app", "/srv"
	in.DiskOnly = true
	stored := Take(t, s, in, control.SnapshotCreating)
	want := in
	want.CreatedAt, want.UpdatedAt = stored.CreatedAt, stored.UpdatedAt
	if diff := cmp.Diff(want, stored); diff != "" || stored.CreatedAt.IsZero() {
		t.Error(diff)
	}
	ready, won, err := s.MoveSnapshot(t.Context(), control.SnapshotMove{
		ID: in.ID, From: []control.SnapshotStatus{control.SnapshotCreating}, To: control.SnapshotReady,
		Observed: &control.ObservedSnapshot{Bytes: 1 << 40, Users: 3, PauseWindow: 41 * time.Millisecond},
	})
	want.Status, want.Bytes, want.Users, want.PauseWindow = control.SnapshotReady, 1<<40, 3, 41*time.Millisecond
	want.UpdatedAt = ready.UpdatedAt
	if diff := cmp.Diff(want, ready); err != nil || !won || diff != "" {
		t.Errorf("won %t, %v\n%s", won, err, diff)
	}
	if err := s.MeasureSnapshot(t.Context(), control.ObservedSnapshot{ID: in.ID, Bytes: 5, Users: 6}); err != nil {
		t.Fatal(err)
	}
	want.Bytes, want.Users = 5, 6
	got, err := s.GetSnapshot(t.Context(), in.ID)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for range 2 {
		if err := s.RemoveSnapshot(t.Context(), in.ID); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.GetSnapshot(t.Context(), in.ID); fault.ReasonOf(err) != control.ReasonSnapshotNotFound || !fault.Is(err, fault.NotFound) {
		t.Errorf("%v, want NotFound", err)
	}
}

// testSnapshotTemplates: only a ready one is a template, none twice, and none
// is moved to deleting; every other change of its status frees the name.
func testSnapshotTemplates(t *testing.T, open Open) {
	s := open(t)
	Host(t, s, "h", 4)
	for _, status := range control.SnapshotStatuses() {
		snap := Take(t, s, NewSnapshot("h"), status)
		_, won, err := s.NameTemplate(t.Context(), snap.ID, "t-"+string(status))
		if err != nil || won != (status == control.SnapshotReady) {
			t.Errorf("%s: won %t, %v", status, won, err)
		}
	}
	snap, other := Take(t, s, NewSnapshot("h"), control.SnapshotReady), Take(t, s, NewSnapshot("h"), control.SnapshotReady)
	if _, won, err := s.NameTemplate(t.Context(), snap.ID, "mine"); err != nil || !won {
		t.Fatal(won, err)
	}
	if _, _, err := s.NameTemplate(t.Context(), other.ID, "mine"); !fault.Is(err, fault.Exists) {
		t.Errorf("%v, want Exists", err)
	}
	if got, err := s.TemplateSnapshot(t.Context(), "mine"); err != nil || got.ID != snap.ID {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := s.TemplateSnapshot(t.Context(), "nosuch"); !fault.Is(err, fault.NotFound) {
		t.Errorf("%v, want NotFound", err)
	}
	deleting := control.SnapshotMove{ID: snap.ID, From: []control.SnapshotStatus{control.SnapshotReady}, To: control.SnapshotDeleting}
	if row, won, err := s.MoveSnapshot(t.Context(), deleting); won || err != nil || row.TemplateName != "mine" {
		t.Errorf("a template is deleted: %t, %v, %+v", won, err, row)
	}
	failed := control.SnapshotMove{ID: snap.ID, From: []control.SnapshotStatus{control.SnapshotReady}, To: control.SnapshotError}
	if row, won, err := s.MoveSnapshot(t.Context(), failed); !won || err != nil || row.TemplateName != "" {
		t.Errorf("%t, %v, %+v", won, err, row)
	}
	if _, won, err := s.NameTemplate(t.Context(), other.ID, "mine"); err != nil || !won {
		t.Errorf("the name is not free: %t, %v", won, err)
	}
}

func testSnapshotQuotaUnderRace(t *testing.T, open Open) {
	s := open(t)
	Host(t, s, "h", 4)
	var (
		wg    sync.WaitGroup
		taken atomic.Int32
	)
	for range 20 {
		wg.Go(func() {
			_, err := s.InsertSnapshot(t.Context(), NewSnapshot("h"), control.SnapshotQuota{Count: 5})
			switch {
			case err == nil:
				taken.Add(1)
			case !fault.Is(err, fault.Quota):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if taken.Load() != 5 {
		t.Errorf("%d were taken, want 5", taken.Load())
	}
}

func testListSnapshots(t *testing.T, open Open) {
	s := open(t)
	Host(t, s, "h", 100)
	var want []sandbox.SnapshotID
	for i := range 7 {
		snap := NewSnapshot("h")
		snap.Name = []string{"even", "odd"}[i%2]
		want = append([]sandbox.SnapshotID{Take(t, s, snap, control.SnapshotReady).ID}, want...)
	}
	fork := NewSnapshot("h")
	fork.Kind = control.KindFork
	Take(t, s, fork, control.SnapshotReady)
	var got []sandbox.SnapshotID
	for cursor := ""; ; {
		page, next, err := s.ListSnapshots(t.Context(), control.SnapshotFilter{Limit: 3, Cursor: cursor, SandboxID: "of"})
		if err != nil {
			t.Fatal(err)
		}
		for _, snap := range page {
			got = append(got, snap.ID)
		}
		if cursor = next; next == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	odd, _, err := s.ListSnapshots(t.Context(), control.SnapshotFilter{Name: "odd"})
	if err != nil || len(odd) != 3 {
		t.Errorf("%d are odd, %v", len(odd), err)
	}
	if _, _, err := s.ListSnapshots(t.Context(), control.SnapshotFilter{Cursor: "nonsense"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("%v, want Invalid", err)
	}
	if all, err := s.SnapshotsOf(t.Context(), "h"); err != nil || len(all) != 8 {
		t.Errorf("%d of the host, %v", len(all), err)
	}
}

func testRemoveFailedSnapshots(t *testing.T, open Open) {
	s := open(t)
	Host(t, s, "h", 4)
	failed, ready := Take(t, s, NewSnapshot("h"), control.SnapshotError), Take(t, s, NewSnapshot("h"), control.SnapshotReady)
	if err := s.RemoveFailedSnapshots(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GetSnapshot(t.Context(), failed.ID); err != nil {
		t.Errorf("one that failed just now is gone: %v", err)
	}
	if err := s.RemoveFailedSnapshots(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GetSnapshot(t.Context(), failed.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("%v, want NotFound", err)
	}
	if _, err := s.GetSnapshot(t.Context(), ready.ID); err != nil {
		t.Error(err)
	}
}

// testInsertForkUnderRace has forks and creates fight for places: a fork gets
// all of its capacity or none.
func testInsertForkUnderRace(t *testing.T, open Open) {
	s := open(t)
	const places, forks, children = 20, 8, 6
	Host(t, s, "h", places)
	var (
		wg    sync.WaitGroup
		taken atomic.Int32
	)
	for range forks {
		wg.Go(func() {
			snap := NewSnapshot("h")
			snap.Kind = control.KindFork
			rows := make([]control.Sandbox, children)
			for i := range rows {
				rows[i] = NewRow("h")
				rows[i].ParentID = "parent"
			}
			got, err := s.InsertFork(t.Context(), snap, rows)
			_, snapErr := s.GetSnapshot(t.Context(), snap.ID)
			switch {
			case err == nil && len(got) == children && snapErr == nil:
				taken.Add(children)
			case !fault.Is(err, fault.NoCapacity) || !fault.Is(snapErr, fault.NotFound):
				t.Errorf("%d rows, %v, %v", len(got), err, snapErr)
			}
		})
		wg.Go(func() {
			_, err := s.Insert(t.Context(), NewRow("h"))
			switch {
			case err == nil:
				taken.Add(1)
			case !fault.Is(err, fault.NoCapacity):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	used, err := s.Usage(t.Context())
	if err != nil || used["h"].VCPUs != int(taken.Load()) || used["h"].VCPUs > places || places-used["h"].VCPUs >= children {
		t.Errorf("%d are held, %d were taken, of %d, %v", used["h"].VCPUs, taken.Load(), places, err)
	}
}
