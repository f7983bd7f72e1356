package control_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/postgres"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// machine creates a machine of the build b1 from an image.
func (b *bundle) machine() control.Sandbox {
	b.t.Helper()
	m, err := b.CreateMachine(b.t.Context(), control.NewMachine{Build: "b1", Image: "minimal", HostID: "h1", VCPUs: 2, MemoryMB: 1024})
	if err != nil {
		b.t.Fatal("machine:", err)
	}
	return m
}

// TestMachineLife: a machine runs on its host with clocks of its own, holds capacity, is
// reconciled, and no list or read shows it.
func TestMachineLife(t *testing.T) {
	b := setup(t)
	m := b.machine()
	if m.BuildID != "b1" || m.HostID != "h1" || m.State != sandbox.Running || m.Spec.VCPUs != 2 || m.Spec.MemoryMB != 1024 ||
		m.Spec.DiskMB != sandbox.DefaultDiskMB || m.Spec.Timeout != 10*time.Minute || m.Spec.Lifetime != 12*time.Hour ||
		m.Spec.OnTimeout != sandbox.TimeoutDestroy || m.Spec.User != "" {
		t.Errorf("%+v", m)
	}
	if rows, _, err := b.List(t.Context(), control.Filter{}); err != nil || len(rows) != 0 {
		t.Errorf("the list shows %+v, %v", rows, err)
	}
	_, err := b.Get(t.Context(), m.ID)
	wantFault(t, err, fault.NotFound, "sandbox_not_found")
	if used, err := b.store.Usage(t.Context()); err != nil || used["h1"].VCPUs != 2 {
		t.Errorf("usage %+v, %v", used, err)
	}
	if _, err := b.Exec(t.Context(), m.ID, control.Exec{Cmd: "true"}, sink{new(bytes.Buffer)}); err != nil {
		t.Errorf("a command of the build: %v", err)
	}
	for build, want := range map[string]int{"b1": 1, "": 1, "b2": 0} {
		if got, err := b.MachinesOf(t.Context(), build); err != nil || len(got) != want {
			t.Errorf("machines of %q: %d, %v, want %d", build, len(got), err, want)
		}
	}
	b.host.forget(m.ID) // its VM has ended
	b.reconcile()
	if got, err := b.MachinesOf(t.Context(), ""); err != nil || len(got) != 0 {
		t.Errorf("an ended machine is there: %+v, %v", got, err)
	}
	if row, err := b.store.Get(t.Context(), m.ID); err != nil || !row.State.Ended() {
		t.Errorf("%+v, %v, want an ended row", row, err)
	}
}

func TestMachineRefused(t *testing.T) {
	b := setup(t)
	for _, c := range []struct {
		m      control.NewMachine
		kind   fault.Kind
		reason string
	}{
		{control.NewMachine{Image: "minimal"}, fault.Internal, "internal"},
		{control.NewMachine{Build: "b", Image: "Not A Name"}, fault.Invalid, "invalid_template"},
		{control.NewMachine{Build: "b", Image: "nosuch"}, fault.Invalid, "template_not_found"},
		{control.NewMachine{Build: "b", Image: "minimal", VCPUs: 1000}, fault.Invalid, "invalid_vcpus"},
		{control.NewMachine{Build: "b", Image: "minimal", HostID: "nosuch"}, fault.HostFailed, "host_unreachable"},
		{control.NewMachine{Build: "b", Snapshot: "nosuch"}, fault.NotFound, "snapshot_not_found"},
	} {
		_, err := b.CreateMachine(t.Context(), c.m)
		wantFault(t, err, c.kind, c.reason)
	}
	if got, err := b.MachinesOf(t.Context(), ""); err != nil || len(got) != 0 {
		t.Errorf("a refused machine has a row: %+v, %v", got, err)
	}
}

// TestKeptSnapshot: a snapshot of a machine is hidden, no part of the quota of named ones,
// reconciled, a start for machines, and deleted by DropSnapshot.
func TestKeptSnapshot(t *testing.T) {
	b := setup(t, func(c *control.Config) { c.MaxSnapshots = 0 })
	m := b.machine()
	kept, err := b.KeepSnapshot(t.Context(), m.ID, control.KeptSnapshot{
		Kind: control.KindTemplate, TemplateID: "tid", TemplateName: "web", User: "app", Workdir: "/srv",
	})
	if err != nil {
		t.Fatal(err)
	}
	if kept.Kind != control.KindTemplate || kept.Status != control.SnapshotReady || kept.Spec.TemplateID != "tid" ||
		kept.Spec.TemplateName() != "web" || kept.Spec.Template != "minimal" || kept.Spec.User != "app" || kept.Spec.Workdir != "/srv" {
		t.Errorf("%+v", kept)
	}
	b.reconcile()
	b.wantSnapshot(kept.ID, "")
	if list, _, err := b.ListSnapshots(t.Context(), control.SnapshotFilter{}); err != nil || len(list) != 0 {
		t.Errorf("the list shows %+v, %v", list, err)
	}
	_, err = b.Create(t.Context(), control.NewSandbox{SnapshotID: kept.ID})
	wantFault(t, err, fault.NotFound, "snapshot_not_found")
	wantFault(t, b.DeleteSnapshot(t.Context(), kept.ID), fault.NotFound, "snapshot_not_found")
	_, err = b.SetTemplate(t.Context(), kept.ID, "mine")
	wantFault(t, err, fault.NotFound, "snapshot_not_found")

	from, err := b.CreateMachine(t.Context(), control.NewMachine{Build: "b2", Snapshot: kept.ID})
	if err != nil || from.SnapshotID != kept.ID || from.Spec.VCPUs != 2 || from.Spec.User != "" || from.Spec.TemplateID != "" {
		t.Errorf("%+v, %v", from, err)
	}
	for range 2 {
		if err := b.DropSnapshot(t.Context(), kept.ID); err != nil {
			t.Error(err)
		}
	}
	if _, err := b.store.GetSnapshot(t.Context(), kept.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("the row is there: %v", err)
	}
	b.wantNoSnapshots()
	for _, k := range []control.KeptSnapshot{
		{Kind: control.KindNamed}, {Kind: control.KindLayer, Workdir: "relative"}, {Kind: control.KindLayer, User: "a\nb"},
	} {
		if _, err := b.KeepSnapshot(t.Context(), m.ID, k); err == nil {
			t.Errorf("%+v is kept", k)
		}
	}
}

// TestKeptSnapshotLost: a snapshot whose answer is lost is deleted by the reconciler, and one
// whose deletion the host did not confirm too.
func TestKeptSnapshotLost(t *testing.T) {
	b := setup(t)
	m := b.machine()
	b.host.script(false, "snapshot", lost)
	if _, err := b.KeepSnapshot(t.Context(), m.ID, control.KeptSnapshot{Kind: control.KindLayer}); fault.ReasonOf(err) != "outcome_unknown" {
		t.Errorf("%v, want outcome_unknown", err)
	}
	b.host.script(false, "snapshot", nil)
	b.reconcile()
	b.wantNoSnapshots()
	kept, err := b.KeepSnapshot(t.Context(), m.ID, control.KeptSnapshot{Kind: control.KindLayer})
	if err != nil {
		t.Fatal(err)
	}
	b.host.script(true, "unsnapshot", func(context.Context, sandbox.Ref) error {
		return fault.New(fault.Unavailable, "down", "down")
	})
	if err := b.DropSnapshot(t.Context(), kept.ID); err != nil {
		t.Errorf("%v, want nil: the reconciler finishes", err)
	}
	b.host.script(true, "unsnapshot", nil)
	b.reconcile()
	b.wantNoSnapshots()
}

// templates returns the rows of templates.
func (b *bundle) templates() templates.Store { return b.store.Store.(*postgres.Store).Templates() }

// builtTemplate makes a template with a ready build, whose snapshot is on the host.
func (b *bundle) builtTemplate(name string, tags ...string) templates.Build {
	b.t.Helper()
	store := b.templates()
	tmpl, build := templates.Template{ID: templates.ID(sandbox.NewID()), Name: name}, templates.Build{
		ID: templates.BuildID("01234567-89ab-4def-8123-" + string(sandbox.NewID())[:12]), Tags: tags, VCPUs: 2, MemoryMB: 1024, DiskMB: 2048,
	}
	tmpl, build, err := store.InsertBuild(b.t.Context(), tmpl, build)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, _, err := store.StartBuild(b.t.Context(), build.ID, plan.Plan{}, 1, false); err != nil {
		b.t.Fatal(err)
	}
	m := b.machine()
	kept, err := b.KeepSnapshot(b.t.Context(), m.ID, control.KeptSnapshot{
		Kind: control.KindTemplate, TemplateID: string(tmpl.ID), TemplateName: name, User: "app", Workdir: "/srv",
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.Destroy(b.t.Context(), m.ID); err != nil {
		b.t.Fatal(err)
	}
	build.Env = map[string]string{"A": "template", "B": "template"}
	build.Status, build.Snapshot, build.HostID, build.User, build.Workdir = templates.Ready, kept.ID, "h1", "app", "/srv"
	if won, err := store.FinishBuild(b.t.Context(), build, 1); err != nil || !won {
		b.t.Fatal(won, err)
	}
	return build
}

// TestEnvironmentOfATemplate: a create adds to it, within the bounds of a sandbox.
func TestEnvironmentOfATemplate(t *testing.T) {
	b := setup(t)
	b.builtTemplate("web", "default")
	ref, many := "web", map[string]string{}
	for i := range sandbox.MaxEnvEntries - 1 {
		many[fmt.Sprint("V", i)] = "1"
	}
	for _, tt := range []struct {
		env, want map[string]string
	}{
		{nil, map[string]string{"A": "template", "B": "template"}},
		{map[string]string{"B": "create", "C": "create"}, map[string]string{"A": "template", "B": "create", "C": "create"}},
		{many, nil},
	} {
		row, err := b.Create(t.Context(), control.NewSandbox{Spec: control.SpecRequest{Template: &ref, Env: tt.env}})
		if tt.want == nil {
			const share = "env may have at most 256 entries, together with the environment of the template, which has 2 entries and 18 bytes"
			if fault.ReasonOf(err) != "invalid_env" || fault.As(err).Public != share {
				t.Errorf("more variables than a sandbox can have: %v, want invalid_env: %s", err, share)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := b.host.vms[row.ID].Spec.Env; !maps.Equal(got, tt.want) {
			t.Errorf("the host was told %v, want %v", got, tt.want)
		}
		if len(row.Spec.Env) > 0 {
			t.Errorf("the environment is read back: %v", row.Spec.Env)
		}
		if err := b.Destroy(t.Context(), row.ID); err != nil {
			t.Error(err)
		}
	}
}

// TestCreateFromTemplate by each form of reference.
func TestCreateFromTemplate(t *testing.T) {
	b := setup(t)
	first, second := b.builtTemplate("web", "default", "v1"), b.builtTemplate("web", "default")
	id := string(first.Template)
	var last control.Sandbox
	for ref, want := range map[string]struct {
		build templates.Build
		ref   string
	}{
		"web":                     {second, "web"},
		"web:default":             {second, "web:default"},
		"web:v1":                  {first, "web:v1"},
		"team/web:v1":             {first, "web:v1"},
		"web:" + string(first.ID): {first, "web:" + string(first.ID)},
		id:                        {second, "web"},
		id + ":v1":                {first, "web:v1"},
	} {
		row, err := b.Create(t.Context(), control.NewSandbox{Spec: control.SpecRequest{Template: &ref}})
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if row.SnapshotID != want.build.Snapshot || row.Spec.TemplateID != id || row.Spec.TemplateRef != want.ref ||
			row.Spec.Template != "minimal" || row.Spec.User != "app" || row.Spec.Workdir != "/srv" || row.Spec.VCPUs != 2 || row.BuildID != "" {
			t.Errorf("%s: %+v", ref, row)
		}
		if told := b.host.vms[row.ID].Spec; told.User != "app" || told.Workdir != "/srv" {
			t.Errorf("%s: the host was told %+v", ref, told)
		}
		if last.ID != "" {
			if err := b.Destroy(t.Context(), last.ID); err != nil {
				t.Error(err)
			}
		}
		last = row
	}
	if tmpl, err := b.templates().GetTemplate(t.Context(), id); err != nil || tmpl.Spawned != 7 || tmpl.SpawnedAt == nil {
		t.Errorf("%+v, %v, want 7 sandboxes", tmpl, err)
	}
	for filter, want := range map[string]int{"web": 7, id: 7, "web:v1": 3, "minimal": 0, "nosuch": 0} {
		if rows, _, err := b.List(t.Context(), control.Filter{Template: filter}); err != nil || len(rows) != want {
			t.Errorf("%d sandboxes of %s, %v, want %d", len(rows), filter, err, want)
		}
	}
	// A snapshot and a fork keep all of it, also without the template.
	snap := b.snapshot(last.ID)
	if _, err := b.templates().DeleteTemplate(t.Context(), first.Template); err != nil {
		t.Fatal(err)
	}
	copied, err := b.Create(t.Context(), control.NewSandbox{SnapshotID: snap.ID, Spec: control.SpecRequest{Template: &last.Spec.TemplateRef}})
	if err != nil {
		t.Fatal(err)
	}
	forked, err := b.Fork(t.Context(), last.ID, control.Fork{Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []control.Sandbox{copied, forked.Sandboxes[0]} {
		if row.Spec.TemplateID != id || row.Spec.TemplateRef != last.Spec.TemplateRef || row.Spec.User != "app" || row.Spec.Workdir != "/srv" {
			t.Errorf("%+v", row.Spec)
		}
	}
}

func TestCreateFromTemplateRefused(t *testing.T) {
	b := setup(t)
	b.builtTemplate("web", "default")
	tmpl, waiting := templates.Template{ID: "newtemplate", Name: "new"}, templates.Build{ID: "w1", Tags: []string{"default"}, VCPUs: 1, MemoryMB: 512, DiskMB: 512}
	if _, _, err := b.templates().InsertBuild(t.Context(), tmpl, waiting); err != nil {
		t.Fatal(err)
	}
	lost := b.builtTemplate("lost", "default")
	if err := b.DropSnapshot(t.Context(), lost.Snapshot); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		ref, text string
		vcpus     int
		kind      fault.Kind
		reason    string
	}{
		{"nosuch", "there are", 0, fault.Invalid, "template_not_found"},
		{"web:v9", `no tag "v9"; there are: default`, 0, fault.Invalid, "template_not_found"},
		{"minimal:v9", `no tag "v9"`, 0, fault.Invalid, "template_not_found"},
		{"new", "waiting", 0, fault.WrongState, "build_state"},
		{"new:w1", "waiting", 0, fault.WrongState, "build_state"},
		{"lost", "build it again", 0, fault.WrongState, "build_state"},
		{"oci-tools", "imported image", 0, fault.Invalid, "invalid_template"},
		{"team/oci-tools:default", "imported image", 0, fault.Invalid, "invalid_template"},
		{"Web", "", 0, fault.Invalid, "invalid_template"},
		{"web:", "", 0, fault.Invalid, "invalid_template"},
		{"web", "vcpus", 1, fault.Invalid, "snapshot_fixes_size"},
	} {
		req := control.SpecRequest{Template: &c.ref}
		if c.vcpus != 0 {
			req.VCPUs = &c.vcpus
		}
		_, err := b.Create(t.Context(), control.NewSandbox{Spec: req})
		wantFault(t, err, c.kind, c.reason)
		if err != nil && !strings.Contains(fault.As(err).Public, c.text) {
			t.Errorf("%s: %v, want %q in it", c.ref, err, c.text)
		}
	}
	if rows, _, err := b.List(t.Context(), control.Filter{}); err != nil || len(rows) != 0 {
		t.Errorf("a refused create has a row: %+v, %v", rows, err)
	}
	// An image comes before a template with its name.
	b.builtTemplate("minimal", "default")
	row, err := b.Create(t.Context(), control.NewSandbox{Spec: control.SpecRequest{Template: ptr("minimal")}})
	if err != nil || row.SnapshotID != "" || row.Spec.TemplateID != "" {
		t.Errorf("%+v, %v", row, err)
	}
}
