package storetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// OpenTemplates returns an empty store with its part for templates.
type OpenTemplates func(t *testing.T) (control.Store, templates.Store)

// RunTemplates runs the suite of templates.Store, each test in parallel on a store of its own.
func RunTemplates(t *testing.T, open OpenTemplates) {
	for _, c := range []struct {
		name string
		test func(*testing.T, control.Store, templates.Store)
	}{
		{"BuildThereAndBack", testBuildThereAndBack},
		{"BuildStatus", testBuildStatus},
		{"BuildFence", testBuildFence},
		{"StartUnderRace", testStartUnderRace},
		{"FinishUnderRace", testFinishUnderRace},
		{"TemplateNames", testTemplateNames},
		{"TemplateNamesUnderRace", testTemplateNamesUnderRace},
		{"ListTemplates", testListTemplates},
		{"DeleteTemplate", testDeleteTemplate},
		{"Tags", testTags},
		{"Orphans", testOrphans},
		{"BuildLogs", testBuildLogs},
		{"BuildLogBounds", testBuildLogBounds},
		{"Expire", testExpire},
		{"ExpiryAges", testExpiryAges},
		{"DeleteOldBuilds", testDeleteOldBuilds},
		{"Layers", testLayers},
		{"StraySnapshots", testStraySnapshots},
		{"ResolveTemplate", testResolveTemplate},
		{"Machines", testMachines},
		{"ListByTemplate", testListByTemplate},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, ts := open(t)
			c.test(t, s, ts)
		})
	}
}

// NewTemplate returns a template with a name and a waiting build of it.
func NewTemplate(name string, tags ...string) (templates.Template, templates.Build) {
	id := templates.ID(sandbox.NewID())
	return templates.Template{ID: id, Name: name}, templates.Build{
		ID: newBuildID(), Template: id, Status: templates.Waiting, Tags: tags, VCPUs: 2, MemoryMB: 1024, DiskMB: 2048,
		Runtime: sandbox.RuntimeGVisor,
	}
}

func newBuildID() templates.BuildID {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return templates.BuildID(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
}

// Begin inserts a waiting build of the template name.
func Begin(t *testing.T, s templates.Store, name string, tags ...string) templates.Build {
	t.Helper()
	tmpl, b := NewTemplate(name, tags...)
	_, b, err := s.InsertBuild(t.Context(), tmpl, b)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Built makes a ready build of the template name, with a snapshot.
func Built(t *testing.T, s templates.Store, name string, tags ...string) templates.Build {
	t.Helper()
	b := Begin(t, s, name, tags...)
	if _, _, err := s.StartBuild(t.Context(), b.ID, plan.Plan{}, 1, false); err != nil {
		t.Fatal(err)
	}
	b.Status, b.Snapshot, b.HostID, b.User, b.Workdir = templates.Ready, sandbox.NewSnapshotID(), "h", "app", "/srv"
	b.Env = map[string]string{"PATH": "/opt/bin:/bin", "TEXT": "a \"b\"\n"}
	if won, err := s.FinishBuild(t.Context(), b, 1); err != nil || !won {
		t.Fatal(won, err)
	}
	return b
}

func testBuildThereAndBack(t *testing.T, _ control.Store, s templates.Store) {
	in, build := NewTemplate("web", "v1", "default")
	tmpl, stored, err := s.InsertBuild(t.Context(), in, build)
	if err != nil {
		t.Fatal(err)
	}
	want := build
	want.CreatedAt, want.UpdatedAt = stored.CreatedAt, stored.UpdatedAt
	if diff := cmp.Diff(want, stored); diff != "" || stored.CreatedAt.IsZero() {
		t.Error(diff)
	}
	wantTmpl := templates.Template{
		ID: in.ID, Name: "web", VCPUs: 2, MemoryMB: 1024, DiskMB: 2048, Latest: build.ID, Status: templates.Waiting, Builds: 1,
		CreatedAt: tmpl.CreatedAt, UpdatedAt: tmpl.UpdatedAt,
	}
	if diff := cmp.Diff(wantTmpl, tmpl); diff != "" || tmpl.CreatedAt.IsZero() {
		t.Error(diff)
	}
	p := plan.Plan{
		Stages: []plan.Stage{{Name: "a", From: plan.Base{Image: "x"}, Steps: []plan.Step{{ID: "1", Run: &plan.Run{Argv: []string{"a\x00b"}}}}}},
		Start:  "run",
	}
	started, superseded, err := s.StartBuild(t.Context(), build.ID, p, 7, true)
	want.Status, want.StartedAt, want.UpdatedAt = templates.Building, started.StartedAt, started.UpdatedAt
	if diff := cmp.Diff(want, started); err != nil || diff != "" || len(superseded) > 0 || started.StartedAt == nil {
		t.Errorf("%v, %v\n%s", err, superseded, diff)
	}
	if err := s.Progress(t.Context(), build.ID, 7, 3, 9); err != nil {
		t.Error(err)
	}
	orphans, err := s.Orphans(t.Context(), 8)
	if err != nil || len(orphans) != 1 || orphans[0] != build.ID {
		t.Errorf("%+v, %v, want the build %s", orphans, err, build.ID)
	}
	owned, found, err := s.OwnedBuild(t.Context(), build.ID, 8)
	if err != nil || !found || !owned.HasInputs || owned.Build.Step != 3 || owned.Build.Steps != 9 {
		t.Errorf("%+v, %t, %v", owned, found, err)
	} else if diff := cmp.Diff(p, owned.Plan); diff != "" {
		t.Error(diff)
	}
	end := want
	end.Status, end.Snapshot, end.HostID, end.User, end.Workdir, end.Step, end.Steps = templates.Ready, "snap", "h", "app", "/srv", 9, 9
	end.VCPUs, end.MemoryMB, end.DiskMB, end.Env = 4, 2048, 4096, map[string]string{"A": "1"}
	if won, err := s.FinishBuild(t.Context(), end, 8); !won || err != nil {
		t.Fatal(won, err)
	}
	got, err := s.GetBuild(t.Context(), build.ID)
	end.FinishedAt, end.UpdatedAt = got.FinishedAt, got.UpdatedAt
	if diff := cmp.Diff(end, got); err != nil || diff != "" || got.FinishedAt == nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if tmpl, err := s.GetTemplate(t.Context(), "web"); err != nil || tmpl.VCPUs != 4 || tmpl.MemoryMB != 2048 || tmpl.DiskMB != 4096 {
		t.Errorf("the sizes of the template: %+v, %v, want those of its build", tmpl, err)
	}
	for _, tag := range []string{"v1", "default", string(build.ID)} {
		if got, err := s.FindBuild(t.Context(), in.ID, tag); err != nil || got.ID != build.ID {
			t.Errorf("%s: %+v, %v", tag, got, err)
		}
	}
	if _, err := s.FindBuild(t.Context(), in.ID, "v2"); !fault.Is(err, fault.NotFound) || fault.ReasonOf(err) != templates.ReasonTagNotFound {
		t.Errorf("a tag that it does not have: %v", err)
	}
	for range 2 {
		if err := s.CountSpawn(t.Context(), in.ID); err != nil {
			t.Error(err)
		}
	}
	public, err := s.SetPublic(t.Context(), in.ID, true)
	if err != nil || !public.Public || public.Spawned != 2 || public.SpawnedAt == nil || public.Status != templates.Ready {
		t.Errorf("%+v, %v", public, err)
	}
	for name, err := range map[string]error{
		"build":    errorOf(s.GetBuild(t.Context(), newBuildID())),
		"template": errorOf(s.GetTemplate(t.Context(), "nosuch")),
		"public":   errorOf(s.SetPublic(t.Context(), "nosuch", true)),
		"find":     errorOf(s.FindBuild(t.Context(), "nosuch", "default")),
		"progress": s.Progress(t.Context(), newBuildID(), 1, 1, 1),
		"logs":     s.AppendLogs(t.Context(), newBuildID(), 0, []templates.LogEntry{{Message: "m"}}),
	} {
		if !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v, want NotFound", name, err)
		}
	}
}

func errorOf[T any](_ T, err error) error { return err }

// testBuildStatus: a build is started once and ends once.
func testBuildStatus(t *testing.T, _ control.Store, s templates.Store) {
	b := Begin(t, s, "web", "default")
	if won, err := s.FinishBuild(t.Context(), templates.Build{ID: b.ID, Status: templates.Ready, VCPUs: 1, MemoryMB: 1, DiskMB: 1}, 0); won || err != nil {
		t.Errorf("a waiting build is finished: %t, %v", won, err)
	}
	if err := s.Progress(t.Context(), b.ID, 1, 1, 2); !fault.Is(err, fault.WrongState) {
		t.Errorf("progress of a waiting build: %v", err)
	}
	if open, err := s.Owned(t.Context(), 1); err != nil || len(open) != 0 {
		t.Errorf("%+v, %v, want no build of a server before a start", open, err)
	}
	if _, _, err := s.StartBuild(t.Context(), b.ID, plan.Plan{}, 1, false); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.StartBuild(t.Context(), b.ID, plan.Plan{}, 1, false); !fault.Is(err, fault.WrongState) {
		t.Errorf("the second start: %v, want WrongState", err)
	}
	if _, _, err := s.StartBuild(t.Context(), newBuildID(), plan.Plan{}, 1, false); !fault.Is(err, fault.NotFound) {
		t.Errorf("the start of no build: %v, want NotFound", err)
	}
	reason := templates.Reason{Message: strings.Repeat("m\x00", templates.MaxLogMessage), Step: "3"}
	b.Status, b.Reason = templates.Failed, &reason
	if won, err := s.FinishBuild(t.Context(), b, 1); !won || err != nil {
		t.Errorf("%t, %v", won, err)
	}
	got, err := s.GetBuild(t.Context(), b.ID)
	if err != nil || got.Status != templates.Failed || got.Reason == nil || got.Reason.Step != "3" || len(got.Reason.Message) != templates.MaxLogMessage {
		t.Errorf("%+v, %v", got, err)
	}
	if tags, err := s.Tags(t.Context(), b.Template); err != nil || len(tags) != 0 {
		t.Errorf("a build that failed has the tags %+v, %v", tags, err)
	}
	for range 2 {
		if won, err := s.FailBuild(t.Context(), b.ID, 0, reason); won || err != nil {
			t.Errorf("an ended build fails: %t, %v", won, err)
		}
	}
	if err := s.Progress(t.Context(), b.ID, 1, 1, 2); !fault.Is(err, fault.WrongState) {
		t.Errorf("progress of an ended build: %v", err)
	}
	waiting := Begin(t, s, "web")
	if won, err := s.FailBuild(t.Context(), waiting.ID, 0, reason); !won || err != nil {
		t.Errorf("a waiting build cannot fail: %t, %v", won, err)
	}
	if open, err := s.Owned(t.Context(), 1); err != nil || len(open) != 0 {
		t.Errorf("%+v, %v, want no ended build", open, err)
	}
}

// testBuildFence: a server whose build another one has claimed changes nothing.
func testBuildFence(t *testing.T, _ control.Store, s templates.Store) {
	b := Begin(t, s, "web", "default")
	p := plan.Plan{Start: "run"}
	if _, _, err := s.StartBuild(t.Context(), b.ID, p, 1<<42, true); err != nil {
		t.Fatal(err)
	}
	owned, err := s.Owned(t.Context(), 1<<42)
	if err != nil || len(owned) != 1 || owned[0] != b.ID {
		t.Errorf("%+v, %v, want the build of the server", owned, err)
	}
	o, found, err := s.OwnedBuild(t.Context(), b.ID, 1<<42)
	if err != nil || !found || o.Build.ID != b.ID || !o.HasInputs || o.Plan.Start != "run" {
		t.Errorf("%+v, %t, %v, want the build of the server with its plan", o, found, err)
	}
	if claimed, err := s.Orphans(t.Context(), 2); err != nil || len(claimed) != 1 {
		t.Fatalf("%+v, %v", claimed, err)
	}
	if owned, err := s.Owned(t.Context(), 1<<42); err != nil || len(owned) != 0 {
		t.Errorf("%+v, %v, want none of the old server", owned, err)
	}
	if o, found, err := s.OwnedBuild(t.Context(), b.ID, 1<<42); err != nil || found {
		t.Errorf("%+v, %t, %v, want no build of the old server", o, found, err)
	}
	if err := s.Progress(t.Context(), b.ID, 1<<42, 1, 2); !fault.Is(err, fault.WrongState) {
		t.Errorf("progress by the old server: %v, want WrongState", err)
	}
	line := []templates.LogEntry{{Message: "m"}}
	if err := s.AppendLogs(t.Context(), b.ID, 1<<42, line); !fault.Is(err, fault.WrongState) {
		t.Errorf("a line of the old server: %v, want WrongState", err)
	}
	end := b
	end.Status, end.Snapshot = templates.Ready, "snap"
	if won, err := s.FinishBuild(t.Context(), end, 1<<42); won || err != nil {
		t.Errorf("the old server finishes the build: %t, %v", won, err)
	}
	if won, err := s.FailBuild(t.Context(), b.ID, 1<<42, templates.Reason{Message: "m"}); won || err != nil {
		t.Errorf("the old server fails the build: %t, %v", won, err)
	}
	got, err := s.GetBuild(t.Context(), b.ID)
	if err != nil || got.Status != templates.Building || got.Step != 0 || got.Snapshot != "" {
		t.Errorf("%+v, %v, want the build as it was", got, err)
	}
	if err := s.Progress(t.Context(), b.ID, 2, 1, 2); err != nil {
		t.Errorf("progress by the new server: %v", err)
	}
	if won, err := s.FailBuild(t.Context(), b.ID, 2, templates.Reason{Message: "m"}); !won || err != nil {
		t.Errorf("the new server cannot fail the build: %t, %v", won, err)
	}
	if err := s.AppendLogs(t.Context(), b.ID, 2, line); err != nil {
		t.Errorf("the last line of the new server after the end: %v", err)
	}
	if log, err := s.Logs(t.Context(), b.ID, 0, 10); err != nil || len(log) != 1 {
		t.Errorf("%+v, %v, want the line of the new server alone", log, err)
	}
	for _, id := range []templates.BuildID{b.ID, newBuildID()} {
		if o, found, err := s.OwnedBuild(t.Context(), id, 2); err != nil || found {
			t.Errorf("%+v, %t, %v, want no build that has ended or does not exist", o, found, err)
		}
	}
}

func underWay(t *testing.T, s templates.Store) []templates.BuildID {
	t.Helper()
	out, err := s.Owned(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// testStartUnderRace: of builds of one template that are started at once, one is under
// way afterwards, and each of the others was superseded once.
func testStartUnderRace(t *testing.T, _ control.Store, s templates.Store) {
	const n = 8
	builds := make([]templates.Build, n)
	for i := range builds {
		builds[i] = Begin(t, s, "web")
	}
	other := Begin(t, s, "other")
	if _, _, err := s.StartBuild(t.Context(), other.ID, plan.Plan{}, 1, false); err != nil {
		t.Fatal(err)
	}
	var superseded atomic.Int32
	var wg sync.WaitGroup
	for _, b := range builds {
		wg.Go(func() {
			_, old, err := s.StartBuild(t.Context(), b.ID, plan.Plan{}, 1, false)
			if err != nil {
				t.Error(err)
			}
			superseded.Add(int32(len(old)))
		})
	}
	wg.Wait()
	if open := underWay(t, s); len(open) != 2 || superseded.Load() != n-1 {
		t.Errorf("%d are under way, %d were superseded", len(open), superseded.Load())
	}
	all, err := s.Builds(t.Context(), builds[0].Template, 100)
	if err != nil || len(all) != n || all[0].ID != builds[n-1].ID {
		t.Fatalf("%d builds, %v", len(all), err)
	}
	for _, b := range all {
		if b.Status == templates.Failed && (b.Reason == nil || b.Reason.Message != templates.Superseded) {
			t.Errorf("%+v", b)
		}
	}
	if few, err := s.Builds(t.Context(), builds[0].Template, 3); err != nil || len(few) != 3 {
		t.Errorf("%d builds, %v, want 3", len(few), err)
	}
}

// testFinishUnderRace: one of many ends wins, and the tags are as its status says.
func testFinishUnderRace(t *testing.T, _ control.Store, s templates.Store) {
	b := Begin(t, s, "web", "a", "b")
	if _, _, err := s.StartBuild(t.Context(), b.ID, plan.Plan{}, 1, false); err != nil {
		t.Fatal(err)
	}
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			end := b
			end.Status, end.Snapshot = templates.Ready, "snap"
			if i%2 == 0 {
				end.Status, end.Snapshot, end.Reason = templates.Failed, "", &templates.Reason{Message: "m"}
			}
			ok, err := s.FinishBuild(t.Context(), end, 1)
			if err != nil {
				t.Error(err)
			}
			if ok {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	got, err := s.GetBuild(t.Context(), b.ID)
	tags, tagsErr := s.Tags(t.Context(), b.Template)
	if err != nil || tagsErr != nil || won.Load() != 1 || (got.Status == templates.Ready) != (len(tags) == 2) {
		t.Errorf("%d won, %+v with %v; %v, %v", won.Load(), got, tags, err, tagsErr)
	}
}

// testTemplateNames: templates and snapshots share one name space, and a second build
// belongs to the same template.
func testTemplateNames(t *testing.T, cs control.Store, s templates.Store) {
	Host(t, cs, "h", 4)
	first := Begin(t, s, "web")
	tmpl, b := NewTemplate("web")
	again, second, err := s.InsertBuild(t.Context(), tmpl, b)
	if err != nil || again.ID != first.Template || second.Template != first.Template || again.Builds != 2 || again.Latest != b.ID {
		t.Errorf("%+v, %+v, %v", again, second, err)
	}
	for _, ref := range []string{"web", string(first.Template)} {
		if got, err := s.GetTemplate(t.Context(), ref); err != nil || got.ID != first.Template {
			t.Errorf("%s: %+v, %v", ref, got, err)
		}
	}
	snap := Take(t, cs, NewSnapshot("h"), control.SnapshotReady)
	if _, _, err := cs.NameTemplate(t.Context(), snap.ID, "web"); !fault.Is(err, fault.Exists) {
		t.Errorf("a snapshot gets the name of a template: %v", err)
	}
	if _, won, err := cs.NameTemplate(t.Context(), snap.ID, "mine"); err != nil || !won {
		t.Fatal(won, err)
	}
	tmpl, b = NewTemplate("mine")
	if _, _, err := s.InsertBuild(t.Context(), tmpl, b); !fault.Is(err, fault.Exists) || fault.ReasonOf(err) != templates.ReasonTemplateExists {
		t.Errorf("a template gets the name of a snapshot: %v", err)
	}
	if _, err := s.GetTemplate(t.Context(), "mine"); !fault.Is(err, fault.NotFound) {
		t.Errorf("the refused template is there: %v", err)
	}
	if _, err := s.DeleteTemplate(t.Context(), first.Template); err != nil {
		t.Fatal(err)
	}
	if _, won, err := cs.NameTemplate(t.Context(), snap.ID, "web"); err != nil || !won {
		t.Errorf("the name is not free: %t, %v", won, err)
	}
}

func testTemplateNamesUnderRace(t *testing.T, cs control.Store, s templates.Store) {
	Host(t, cs, "h", 4)
	for round := range 5 {
		name := fmt.Sprintf("n%d", round)
		snap := Take(t, cs, NewSnapshot("h"), control.SnapshotReady)
		var named, built atomic.Int32
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, won, err := cs.NameTemplate(t.Context(), snap.ID, name); err == nil && won {
				named.Add(1)
			} else if !fault.Is(err, fault.Exists) {
				t.Error(won, err)
			}
		})
		for range 3 {
			wg.Go(func() {
				tmpl, b := NewTemplate(name)
				if _, _, err := s.InsertBuild(t.Context(), tmpl, b); err == nil {
					built.Add(1)
				} else if !fault.Is(err, fault.Exists) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if named.Load() > 0 == (built.Load() > 0) || built.Load() != 0 && built.Load() != 3 {
			t.Errorf("%d snapshots and %d builds have the name", named.Load(), built.Load())
		}
	}
}

func testListTemplates(t *testing.T, _ control.Store, s templates.Store) {
	want := []string{"a", "b", "c", "d", "e"}
	for _, name := range []string{"d", "b", "e", "a", "c"} {
		Built(t, s, name, "z", "default")
	}
	var got []string
	for cursor := ""; ; {
		page, next, err := s.ListTemplates(t.Context(), 2, cursor)
		if err != nil || len(page) > 2 {
			t.Fatal(len(page), err)
		}
		for _, tmpl := range page {
			got = append(got, tmpl.Name)
			if len(tmpl.Tags) != 2 || tmpl.Tags[0].Name != "default" || tmpl.Tags[1].Name != "z" || tmpl.Builds != 1 {
				t.Errorf("%+v", tmpl)
			}
		}
		if cursor = next; next == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if all, next, err := s.ListTemplates(t.Context(), 0, ""); err != nil || len(all) != 5 || next != "" {
		t.Errorf("%d, %q, %v", len(all), next, err)
	}
	for _, bad := range []error{
		third(s.ListTemplates(t.Context(), -1, "")), third(s.ListTemplates(t.Context(), 1, "Not A Name")),
	} {
		if !fault.Is(bad, fault.Invalid) {
			t.Errorf("%v, want Invalid", bad)
		}
	}
}

func third[A, B any](_ A, _ B, err error) error { return err }

func testDeleteTemplate(t *testing.T, _ control.Store, s templates.Store) {
	one, two := Built(t, s, "web", "v1"), Built(t, s, "web", "v2")
	under := Begin(t, s, "web")
	if _, _, err := s.StartBuild(t.Context(), under.ID, plan.Plan{}, 1, false); err != nil {
		t.Fatal(err)
	}
	if err := s.AppendLogs(t.Context(), one.ID, 1, []templates.LogEntry{{Message: "m"}}); err != nil {
		t.Fatal(err)
	}
	snaps, err := s.DeleteTemplate(t.Context(), one.Template)
	if diff := cmp.Diff([]sandbox.SnapshotID{one.Snapshot, two.Snapshot}, snaps); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if _, err := s.DeleteTemplate(t.Context(), one.Template); !fault.Is(err, fault.NotFound) {
		t.Errorf("the second time: %v, want NotFound", err)
	}
	under.Status, under.Snapshot = templates.Ready, "snap"
	if won, err := s.FinishBuild(t.Context(), under, 1); won || err != nil {
		t.Errorf("a build of a deleted template ends: %t, %v", won, err)
	}
	if logs, err := s.Logs(t.Context(), one.ID, 0, 10); err != nil || len(logs) != 0 {
		t.Errorf("%+v, %v", logs, err)
	}
}

func testTags(t *testing.T, _ control.Store, s templates.Store) {
	one, two := Built(t, s, "web", "default", "v1"), Built(t, s, "web", "default", "v2")
	tags := func() map[string]templates.BuildID {
		got, err := s.Tags(t.Context(), one.Template)
		if err != nil || !slices.IsSortedFunc(got, func(a, b templates.Tag) int { return strings.Compare(a.Name, b.Name) }) {
			t.Fatal(got, err)
		}
		out := make(map[string]templates.BuildID)
		for _, tag := range got {
			out[tag.Name] = tag.Build
		}
		return out
	}
	want := map[string]templates.BuildID{"default": two.ID, "v1": one.ID, "v2": two.ID}
	if diff := cmp.Diff(want, tags()); diff != "" {
		t.Error(diff)
	}
	if err := s.SetTags(t.Context(), one.Template, one.ID, []string{"default", "stable", "stable"}); err != nil {
		t.Fatal(err)
	}
	want["default"], want["stable"] = one.ID, one.ID
	if diff := cmp.Diff(want, tags()); diff != "" {
		t.Error(diff)
	}
	waiting, other := Begin(t, s, "web"), Built(t, s, "other")
	many := make([]string, templates.MaxTags)
	for i := range many {
		many[i] = fmt.Sprintf("t%d", i)
	}
	for name, c := range map[string]struct {
		err  error
		kind fault.Kind
	}{
		"a build that is not ready":  {s.SetTags(t.Context(), one.Template, waiting.ID, []string{"x"}), fault.WrongState},
		"a build of another":         {s.SetTags(t.Context(), one.Template, other.ID, []string{"x"}), fault.NotFound},
		"no build":                   {s.SetTags(t.Context(), one.Template, newBuildID(), []string{"x"}), fault.NotFound},
		"too many tags":              {s.SetTags(t.Context(), one.Template, one.ID, many), fault.Quota},
		"a tag that is not there":    {s.RemoveTags(t.Context(), one.Template, []string{"v1", "nosuch"}), fault.NotFound},
		"tags of no template":        {s.RemoveTags(t.Context(), "nosuch", []string{"v1"}), fault.NotFound},
		"a build with too many tags": {errorOfInsert(t, s, "web", many), fault.Quota},
	} {
		if !fault.Is(c.err, c.kind) {
			t.Errorf("%s: %v, want %v", name, c.err, c.kind)
		}
	}
	if diff := cmp.Diff(want, tags()); diff != "" {
		t.Errorf("a refused call has changed tags: %s", diff)
	}
	if err := s.RemoveTags(t.Context(), one.Template, []string{"v1", "stable"}); err != nil {
		t.Fatal(err)
	}
	delete(want, "v1")
	delete(want, "stable")
	if diff := cmp.Diff(want, tags()); diff != "" {
		t.Error(diff)
	}
}

func errorOfInsert(t *testing.T, s templates.Store, name string, tags []string) error {
	tmpl, b := NewTemplate(name, tags...)
	return third(s.InsertBuild(t.Context(), tmpl, b))
}

// testOrphans: the builds of servers that are not live are claimed by one of the servers
// that look for them at once.
func testOrphans(t *testing.T, cs control.Store, s templates.Store) {
	const live, dead = 1 << 41, 1<<41 + 1
	ctx, cancel := context.WithCancel(t.Context())
	held, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- cs.HoldServer(ctx, live, func() { close(held) }) }()
	defer func() { cancel(); <-ended }()
	select {
	case <-held:
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	const n = 6
	for i := range n {
		server := control.ServerID(dead)
		if i%2 == 0 {
			server = live
		}
		b := Begin(t, s, fmt.Sprintf("t%d", i))
		if _, _, err := s.StartBuild(t.Context(), b.ID, plan.Plan{Start: "run"}, server, false); err != nil {
			t.Fatal(err)
		}
	}
	Begin(t, s, "waiting")
	var claimed atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			got, err := s.Orphans(t.Context(), live)
			if err != nil {
				t.Error(err)
			}
			for _, id := range got {
				if o, owned, err := s.OwnedBuild(t.Context(), id, live); err != nil || !owned || o.Plan.Start != "run" || o.Build.Status != templates.Building {
					t.Errorf("%+v, %t, %v, want the claimed build with its plan", o, owned, err)
				}
			}
			claimed.Add(int32(len(got)))
		})
	}
	wg.Wait()
	if claimed.Load() != n/2 {
		t.Errorf("%d were claimed, want %d", claimed.Load(), n/2)
	}
}

func testBuildLogs(t *testing.T, _ control.Store, s templates.Store) {
	b := Begin(t, s, "web")
	at := time.UnixMicro(1e15).UTC()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			err := s.AppendLogs(t.Context(), b.ID, 0, []templates.LogEntry{
				{At: at, Level: "info", Step: "1", Message: "one"}, {At: at, Level: "shout", Message: "two\x00\xff"},
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	all, err := s.Logs(t.Context(), b.ID, 0, 100)
	if err != nil || len(all) != 20 {
		t.Fatal(len(all), err)
	}
	for i, e := range all {
		want := templates.LogEntry{Seq: int64(i + 1), At: at, Level: "info", Step: "1", Message: "one"}
		if i%2 == 1 {
			want.Step, want.Message = "", "two\uFFFD"
		}
		if diff := cmp.Diff(want, e); diff != "" {
			t.Errorf("entry %d: %s", i, diff)
		}
	}
	if some, err := s.Logs(t.Context(), b.ID, 7, 3); err != nil || len(some) != 3 || some[0].Seq != 8 {
		t.Errorf("%+v, %v", some, err)
	}
}

// testBuildLogBounds: a log has at most MaxLogEntries entries of MaxLogBytes, the last of
// which says that there were more.
func testBuildLogBounds(t *testing.T, _ control.Store, s templates.Store) {
	for name, c := range map[string]struct {
		message string
		kept    int
	}{
		"entries": {"m", templates.MaxLogEntries},
		"bytes":   {strings.Repeat("m", templates.MaxLogMessage+5), templates.MaxLogBytes / templates.MaxLogMessage},
	} {
		b := Begin(t, s, name)
		batch := slices.Repeat([]templates.LogEntry{{At: time.UnixMicro(1e15), Level: "info", Message: c.message}}, 700)
		for range templates.MaxLogEntries/len(batch) + 2 {
			if err := s.AppendLogs(t.Context(), b.ID, 0, batch); err != nil {
				t.Fatal(err)
			}
		}
		all, err := s.Logs(t.Context(), b.ID, 0, 2*templates.MaxLogEntries)
		if err != nil || len(all) != c.kept {
			t.Fatalf("%s: %d entries, %v; want %d", name, len(all), err, c.kept)
		}
		bytes := 0
		for _, e := range all {
			bytes += len(e.Message)
		}
		last := all[len(all)-1]
		if last.Message != templates.LogFull || last.Level != "warn" || bytes > templates.MaxLogBytes || len(all[0].Message) > templates.MaxLogMessage {
			t.Errorf("%s: %d bytes, the last is %+v", name, bytes, last)
		}
	}
}

// ages returns an Expiry that keeps one build of each template, with the same age for all.
func ages(d time.Duration) templates.Expiry {
	return templates.Expiry{Keep: 1, Untagged: d, Waiting: d, Stray: d}
}

// testExpiryAges: each kind of row has an age of its own.
func testExpiryAges(t *testing.T, cs control.Store, s templates.Store) {
	Host(t, cs, "h", 4)
	old, _ := Built(t, s, "web"), Built(t, s, "web")
	waiting := Begin(t, s, "web")
	snap := NewSnapshot("h")
	snap.Kind = control.KindLayer
	stray := Take(t, cs, snap, control.SnapshotReady).ID
	for _, c := range []struct {
		name   string
		expiry templates.Expiry
		want   []sandbox.SnapshotID
		waits  templates.BuildStatus
	}{
		{"none", templates.Expiry{Keep: 1, Untagged: time.Hour, Waiting: time.Hour, Stray: time.Hour}, nil, templates.Waiting},
		{"stray", templates.Expiry{Keep: 1, Untagged: time.Hour, Waiting: time.Hour}, []sandbox.SnapshotID{stray}, templates.Waiting},
		{"untagged", templates.Expiry{Keep: 1, Waiting: time.Hour, Stray: time.Hour}, []sandbox.SnapshotID{old.Snapshot}, templates.Waiting},
		{"waiting", templates.Expiry{Keep: 1, Untagged: time.Hour, Stray: time.Hour}, nil, templates.Failed},
	} {
		got, err := s.Expire(t.Context(), c.expiry)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v, want %v", c.name, got, err, c.want)
		}
		if b, err := s.GetBuild(t.Context(), waiting.ID); err != nil || b.Status != c.waits {
			t.Errorf("%s: %+v, %v, want %s", c.name, b, err, c.waits)
		}
	}
}

// testExpire: the snapshots of builds without a tag go, except for the newest.
func testExpire(t *testing.T, _ control.Store, s templates.Store) {
	tagged := Built(t, s, "web", "v1")
	old := Built(t, s, "web")
	older := Built(t, s, "web")
	newest := Built(t, s, "web")
	other := Built(t, s, "other")
	waiting := Begin(t, s, "web")
	if got, err := s.Expire(t.Context(), ages(time.Hour)); err != nil || len(got) != 0 {
		t.Errorf("young ones are removed: %v, %v", got, err)
	}
	got, err := s.Expire(t.Context(), ages(0))
	slices.Sort(got)
	want := []sandbox.SnapshotID{old.Snapshot, older.Snapshot}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, b := range []templates.Build{tagged, newest, other} {
		if now, err := s.GetBuild(t.Context(), b.ID); err != nil || now.Snapshot != b.Snapshot {
			t.Errorf("%+v, %v", now, err)
		}
	}
	if now, err := s.GetBuild(t.Context(), old.ID); err != nil || now.Snapshot != "" || now.Status != templates.Ready {
		t.Errorf("%+v, %v", now, err)
	}
	if now, err := s.GetBuild(t.Context(), waiting.ID); err != nil || now.Status != templates.Failed || now.Reason.Message != templates.Abandoned {
		t.Errorf("%+v, %v", now, err)
	}
	if err := s.SetTags(t.Context(), old.Template, old.ID, []string{"x"}); !fault.Is(err, fault.WrongState) {
		t.Errorf("a build without its snapshot gets a tag: %v", err)
	}
	if got, err := s.Expire(t.Context(), ages(0)); err != nil || len(got) != 0 {
		t.Errorf("the second time: %v, %v", got, err)
	}
}

// testDeleteOldBuilds: Expire leaves KeptBuilds builds of a template, and those with a snapshot.
func testDeleteOldBuilds(t *testing.T, _ control.Store, s templates.Store) {
	kept := Built(t, s, "web", "v1")
	for range templates.KeptBuilds + 5 {
		b := Begin(t, s, "web")
		if _, err := s.FailBuild(t.Context(), b.ID, 0, templates.Reason{Message: "m"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Expire(t.Context(), ages(time.Hour)); err != nil {
		t.Fatal(err)
	}
	all, err := s.Builds(t.Context(), kept.Template, 1000)
	if err != nil || len(all) != templates.KeptBuilds+1 || all[len(all)-1].ID != kept.ID {
		t.Errorf("%d builds, %v", len(all), err)
	}
}

func testLayers(t *testing.T, _ control.Store, s templates.Store) {
	layer := func(key string, build templates.BuildID) templates.Layer {
		return templates.Layer{Key: key, Snapshot: sandbox.NewSnapshotID(), HostID: "h", Build: build, Bytes: 10}
	}
	a, b, c := layer("a", "one"), layer("b", "one"), layer("c", "two")
	for _, l := range []templates.Layer{a, b, c} {
		if old, err := s.InsertLayer(t.Context(), l); err != nil || old != "" {
			t.Fatal(old, err)
		}
	}
	find := func(want templates.Layer, made templates.BuildID, keys ...string) {
		t.Helper()
		got, found, err := s.FindLayer(t.Context(), keys, made)
		want.CreatedAt, want.UsedAt = got.CreatedAt, got.UsedAt
		if diff := cmp.Diff(want, got); err != nil || found != (want.Key != "") || diff != "" {
			t.Errorf("%t, %v\n%s", found, err, diff)
		}
	}
	find(b, "", "a", "b", "nosuch")
	find(c, "", "c")
	find(templates.Layer{}, "", "nosuch")
	find(templates.Layer{}, "")
	find(b, "one", "b", "c")
	newer := layer("b", "three")
	if old, err := s.InsertLayer(t.Context(), newer); err != nil || old != b.Snapshot {
		t.Errorf("%s, %v, want the older one", old, err)
	}
	if old, err := s.InsertLayer(t.Context(), newer); err != nil || old != "" {
		t.Errorf("%s, %v, want none: it is in use", old, err)
	}
	find(newer, "", "b")
	find(a, "", "a") // now used last
	// By the last use: a, b, c.
	if gone, err := s.TrimLayers(t.Context(), 3, 29); err != nil || !slices.Equal(gone, []sandbox.SnapshotID{c.Snapshot}) {
		t.Errorf("%v, %v", gone, err)
	}
	if gone, err := s.TrimLayers(t.Context(), 1, 1<<63); err != nil || !slices.Equal(gone, []sandbox.SnapshotID{newer.Snapshot}) {
		t.Errorf("%v, %v", gone, err)
	}
	if err := s.RemoveLayer(t.Context(), "a", "another"); err != nil {
		t.Error(err)
	}
	find(a, "", "a")
	for range 2 {
		if err := s.RemoveLayer(t.Context(), "a", a.Snapshot); err != nil {
			t.Error(err)
		}
	}
	find(templates.Layer{}, "", "a", "b", "c")
}

// testStraySnapshots: Expire returns the snapshots of builds that nothing names.
func testStraySnapshots(t *testing.T, cs control.Store, s templates.Store) {
	Host(t, cs, "h", 4)
	take := func(kind control.SnapshotKind) sandbox.SnapshotID {
		snap := NewSnapshot("h")
		snap.Kind = kind
		return Take(t, cs, snap, control.SnapshotReady).ID
	}
	stray, layer, final := take(control.KindLayer), take(control.KindLayer), take(control.KindTemplate)
	take(control.KindNamed)
	take(control.KindFork)
	if _, err := s.InsertLayer(t.Context(), templates.Layer{Key: "k", Snapshot: layer, Build: "b"}); err != nil {
		t.Fatal(err)
	}
	b := Begin(t, s, "web", "default")
	if _, _, err := s.StartBuild(t.Context(), b.ID, plan.Plan{}, 1, false); err != nil {
		t.Fatal(err)
	}
	b.Status, b.Snapshot = templates.Ready, final
	if won, err := s.FinishBuild(t.Context(), b, 1); err != nil || !won {
		t.Fatal(won, err)
	}
	if got, err := s.Expire(t.Context(), ages(time.Hour)); err != nil || len(got) != 0 {
		t.Errorf("young ones: %v, %v", got, err)
	}
	if got, err := s.Expire(t.Context(), ages(0)); err != nil || !slices.Equal(got, []sandbox.SnapshotID{stray}) {
		t.Errorf("%v, %v, want %s", got, err, stray)
	}
}

func testResolveTemplate(t *testing.T, cs control.Store, s templates.Store) {
	ready, waiting := Built(t, s, "web", "v1", "default"), Begin(t, s, "web")
	for _, name := range []string{"web", string(ready.Template)} {
		got, err := cs.ResolveTemplate(t.Context(), name, "v1")
		want := control.ResolvedTemplate{
			ID: string(ready.Template), Name: "web", Tags: []string{"default", "v1"}, Status: "waiting",
			Build: string(ready.ID), BuildStatus: "ready", Snapshot: ready.Snapshot, User: "app", Workdir: "/srv", Env: ready.Env,
		}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	}
	if got, err := cs.ResolveTemplate(t.Context(), "web", string(waiting.ID)); err != nil || got.BuildStatus != "waiting" || got.Snapshot != "" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := cs.ResolveTemplate(t.Context(), "web", "nosuch"); err != nil || got.Name != "web" || got.Build != "" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := cs.ResolveTemplate(t.Context(), "nosuch", "default"); !fault.Is(err, fault.NotFound) {
		t.Errorf("%v, want NotFound", err)
	}
	for _, id := range []string{string(ready.Template), "nosuch"} {
		if err := cs.CountSpawn(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if tmpl, err := s.GetTemplate(t.Context(), "web"); err != nil || tmpl.Spawned != 1 {
		t.Errorf("%+v, %v", tmpl, err)
	}
}

// testMachines: a row with a build is in no list and holds capacity.
func testMachines(t *testing.T, cs control.Store, _ templates.Store) {
	Host(t, cs, "h", 3)
	row := NewRow("h")
	row.BuildID = "b1"
	first := Insert(t, cs, row)
	row.ID, row.BuildID = sandbox.NewID(), "b2"
	Insert(t, cs, row)
	plain := Insert(t, cs, NewRow("h"))
	if _, err := cs.Insert(t.Context(), NewRow("h")); !fault.Is(err, fault.NoCapacity) {
		t.Errorf("machines hold no capacity: %v", err)
	}
	if rows, _, err := cs.List(t.Context(), control.Filter{}); err != nil || len(rows) != 1 || rows[0].ID != plain.ID {
		t.Errorf("%+v, %v, want the one without a build", rows, err)
	}
	if got, err := cs.Get(t.Context(), first.ID); err != nil || got.BuildID != "b1" {
		t.Errorf("%+v, %v", got, err)
	}
	if rows, err := cs.Unended(t.Context(), "h"); err != nil || len(rows) != 3 {
		t.Errorf("%d rows of the host, %v, want 3", len(rows), err)
	}
	Walk(t, cs, first, sandbox.Running)
	for build, want := range map[string]int{"": 2, "b1": 1, "b3": 0} {
		if rows, err := cs.Machines(t.Context(), build); err != nil || len(rows) != want {
			t.Errorf("%d machines of %q, %v, want %d", len(rows), build, err, want)
		}
	}
	running, err := cs.Get(t.Context(), first.ID)
	if err != nil {
		t.Fatal(err)
	}
	Walk(t, cs, running, sandbox.Stopping, sandbox.Stopped)
	if rows, err := cs.Machines(t.Context(), ""); err != nil || len(rows) != 1 {
		t.Errorf("%d machines, %v, want the one that has not ended", len(rows), err)
	}
}

func testListByTemplate(t *testing.T, cs control.Store, _ templates.Store) {
	Host(t, cs, "h", 10)
	Insert(t, cs, NewRow("h"))
	for _, ref := range []string{"web", "web:v1"} {
		row := NewRow("h")
		row.Spec.TemplateID, row.Spec.TemplateRef, row.Spec.User, row.Spec.Workdir = "tid", ref, "app", "/srv"
		if got := Insert(t, cs, row); got.Spec.TemplateID != "tid" || got.Spec.TemplateRef != ref || got.Spec.User != "app" || got.Spec.Workdir != "/srv" {
			t.Errorf("%+v", got.Spec)
		}
	}
	for template, want := range map[string]int{"minimal": 1, "web": 2, "web:v1": 1, "tid": 2, "web:v2": 0, "we": 0} {
		if rows, _, err := cs.List(t.Context(), control.Filter{Template: template}); err != nil || len(rows) != want {
			t.Errorf("%d sandboxes of %s, %v, want %d", len(rows), template, err, want)
		}
	}
}
