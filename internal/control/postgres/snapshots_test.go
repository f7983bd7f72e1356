package postgres_test

import (
	"context"
	"database/sql"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres"
	"github.com/wrenn-dev/wrenn/internal/control/postgres/pgtest"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// plenty is a quota that is never used up.
var plenty = control.SnapshotQuota{Count: 1000}

func newSnapshot(hostID string) control.Snapshot {
	return control.Snapshot{
		ID: sandbox.NewSnapshotID(), Kind: control.KindNamed, Status: control.SnapshotCreating, HostID: hostID,
		Of:   sandbox.Ref{ID: "of", Generation: 1},
		Spec: sandbox.Spec{Template: "minimal", VCPUs: 1, MemoryMB: 512, DiskMB: 2048},
	}
}

// take inserts a snapshot and moves it to status.
func take(t *testing.T, s *postgres.Store, snap control.Snapshot, status control.SnapshotStatus) control.Snapshot {
	t.Helper()
	row, err := s.InsertSnapshot(t.Context(), snap, plenty)
	if err != nil {
		t.Fatal(err)
	}
	if status == control.SnapshotCreating {
		return row
	}
	row, won, err := s.MoveSnapshot(t.Context(), control.SnapshotMove{ID: row.ID, From: control.SnapshotStatuses(), To: status})
	if err != nil || !won {
		t.Fatal(won, err)
	}
	return row
}

func TestSnapshotThereAndBack(t *testing.T) {
	t.Parallel()
	s := pgtest.Open(t)
	host(t, s, "h", 4)
	in := newSnapshot("h")
	in.Name, in.Metadata = "a name", map[string]string{"k": "\"ü"}
	stored := take(t, s, in, control.SnapshotCreating)
	want := in
	want.CreatedAt, want.UpdatedAt = stored.CreatedAt, stored.UpdatedAt
	if diff := cmp.Diff(want, stored); diff != "" || stored.CreatedAt.IsZero() {
		t.Error(diff)
	}
	ready, won, err := s.MoveSnapshot(t.Context(), control.SnapshotMove{
		ID: in.ID, From: []control.SnapshotStatus{control.SnapshotCreating}, To: control.SnapshotReady,
		View: &control.SnapshotView{Bytes: 1 << 40, Users: 3, PauseWindow: 41 * time.Millisecond},
	})
	want.Status, want.Bytes, want.Users, want.PauseWindow = control.SnapshotReady, 1<<40, 3, 41*time.Millisecond
	want.UpdatedAt = ready.UpdatedAt
	if diff := cmp.Diff(want, ready); err != nil || !won || diff != "" {
		t.Errorf("won %t, %v\n%s", won, err, diff)
	}
	if err := s.MeasureSnapshot(t.Context(), control.SnapshotView{ID: in.ID, Bytes: 5, Users: 6}); err != nil {
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

// TestSnapshotTemplates: only a ready one is a template, none twice, and none
// is moved to deleting; whatever else becomes of it frees the name.
func TestSnapshotTemplates(t *testing.T) {
	t.Parallel()
	s := pgtest.Open(t)
	host(t, s, "h", 4)
	for _, status := range control.SnapshotStatuses() {
		snap := take(t, s, newSnapshot("h"), status)
		_, won, err := s.NameTemplate(t.Context(), snap.ID, "t-"+string(status))
		if err != nil || won != (status == control.SnapshotReady) {
			t.Errorf("%s: won %t, %v", status, won, err)
		}
	}
	snap, other := take(t, s, newSnapshot("h"), control.SnapshotReady), take(t, s, newSnapshot("h"), control.SnapshotReady)
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

func TestSnapshotQuotaUnderRace(t *testing.T) {
	t.Parallel()
	s := pgtest.Open(t)
	host(t, s, "h", 4)
	var (
		wg    sync.WaitGroup
		taken atomic.Int32
	)
	for range 20 {
		wg.Go(func() {
			_, err := s.InsertSnapshot(t.Context(), newSnapshot("h"), control.SnapshotQuota{Count: 5})
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

func TestListSnapshots(t *testing.T) {
	t.Parallel()
	s := pgtest.Open(t)
	host(t, s, "h", 100)
	var want []sandbox.SnapshotID
	for i := range 7 {
		snap := newSnapshot("h")
		snap.Name = []string{"even", "odd"}[i%2]
		want = append([]sandbox.SnapshotID{take(t, s, snap, control.SnapshotReady).ID}, want...)
	}
	fork := newSnapshot("h")
	fork.Kind = control.KindFork
	take(t, s, fork, control.SnapshotReady)
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

func TestRemoveFailedSnapshots(t *testing.T) {
	t.Parallel()
	s := pgtest.Open(t)
	host(t, s, "h", 4)
	failed, ready := take(t, s, newSnapshot("h"), control.SnapshotError), take(t, s, newSnapshot("h"), control.SnapshotReady)
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

// TestInsertForkUnderRace has forks and creates fight for places: a fork gets
// all of what it wants or leaves nothing.
func TestInsertForkUnderRace(t *testing.T) {
	t.Parallel()
	s := pgtest.Open(t)
	const places, forks, children = 20, 8, 6
	host(t, s, "h", places)
	var (
		wg    sync.WaitGroup
		taken atomic.Int32
	)
	for range forks {
		wg.Go(func() {
			snap := newSnapshot("h")
			snap.Kind = control.KindFork
			rows := make([]control.Sandbox, children)
			for i := range rows {
				rows[i] = newRow("h")
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
			_, err := s.Insert(t.Context(), newRow("h"))
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

// TestClocksCompareAndSet: each field that was read must still be so.
func TestClocksCompareAndSet(t *testing.T) {
	t.Parallel()
	s := pgtest.Open(t)
	host(t, s, "h", 4)
	ends := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	row := newRow("h")
	row.Spec.Timeout, row.Spec.Lifetime = time.Minute, time.Hour
	row = insert(t, s, row)
	row, won, err := s.Move(t.Context(), control.Move{
		Ref: row.Ref(), From: sandbox.Pending, To: sandbox.Running, Facts: &control.Facts{LifetimeEndsAt: ends},
	})
	if err != nil || !won {
		t.Fatal(won, err)
	}
	to := control.Timeouts{Idle: 2 * time.Minute, Lifetime: 2 * time.Hour, OnTimeout: sandbox.TimeoutPause}
	later := ends.Add(time.Hour)
	for name, change := range map[string]func(*control.Sandbox){
		"generation":  func(r *control.Sandbox) { r.Generation++ },
		"state":       func(r *control.Sandbox) { r.State = sandbox.Paused },
		"idle":        func(r *control.Sandbox) { r.Spec.Timeout++ },
		"lifetime":    func(r *control.Sandbox) { r.Spec.Lifetime++ },
		"on_timeout":  func(r *control.Sandbox) { r.Spec.OnTimeout = sandbox.TimeoutPause },
		"auto_resume": func(r *control.Sandbox) { r.Spec.AutoResume = true },
		"end":         func(r *control.Sandbox) { r.LifetimeEndsAt = &later },
		"no end":      func(r *control.Sandbox) { r.LifetimeEndsAt = nil },
	} {
		was := row
		change(&was)
		now, won, err := s.SetClocks(t.Context(), control.ClockChange{Was: was, Timeouts: to})
		if err != nil || won || !cmp.Equal(now, row) {
			t.Errorf("%s: won %t, %v", name, won, err)
		}
	}
	now, won, err := s.SetClocks(t.Context(), control.ClockChange{Was: row, Timeouts: to, AutoResume: true, LifetimeEndsAt: &later})
	want := row
	want.Spec.Timeout, want.Spec.Lifetime, want.Spec.OnTimeout, want.Spec.AutoResume = to.Idle, to.Lifetime, to.OnTimeout, true
	want.LifetimeEndsAt = &later
	if diff := cmp.Diff(want, now); err != nil || !won || diff != "" {
		t.Errorf("won %t, %v\n%s", won, err, diff)
	}
	// What a host said before the change does not undo it.
	old := control.View{Ref: row.Ref(), Spec: sandbox.Spec{Lifetime: time.Hour}, Facts: control.Facts{LifetimeEndsAt: ends}}
	if err := s.Learn(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(t.Context(), row.ID); err != nil || !got.LifetimeEndsAt.Equal(later) {
		t.Errorf("the end is %v, %v, want %v", got.LifetimeEndsAt, err, later)
	}
}

// TestMigrateFilled brings a database of the first schema with rows in it up
// to date, down again, and up.
func TestMigrateFilled(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	s := storeOn(pool)
	host(t, s, "h", 4)
	row := insert(t, s, newRow("h"))
	down(t, stdlib.OpenDBFromPool(pool))
	if err := postgres.Migrate(t.Context(), pool, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	pool.Reset() // prepared statements know the old columns
	got, err := s.Get(t.Context(), row.ID)
	if diff := cmp.Diff(row, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

// down takes the last migration back.
func down(t *testing.T, db *sql.DB) {
	t.Helper()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, postgres.Migrations())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.Down(context.Background()); err != nil {
		t.Fatal(err)
	}
}
