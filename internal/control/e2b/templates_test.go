package e2b

import (
	"context"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// store is a control plane with one image and three snapshots.
type store struct {
	API
	// from are the templates and snapshots of the creates, in order.
	from []string
}

// template is the id of the snapshot that is the template "py".
const template = "aaaaaaaaaaaaaaaaaaaa"

func (f *store) snapshots() []control.Snapshot {
	return []control.Snapshot{
		{ID: "newest", Name: "mine", Status: control.SnapshotCreating},
		{ID: template, TemplateName: "py", Name: "team/odd name:x", Status: control.SnapshotReady},
		{ID: "older", Name: "mine", Status: control.SnapshotReady},
	}
}

func (f *store) Create(_ context.Context, n control.NewSandbox) (control.Sandbox, error) {
	row := control.Sandbox{ID: "box", State: sandbox.Running, SnapshotID: n.SnapshotID}
	if n.SnapshotID != "" {
		f.from = append(f.from, string(n.SnapshotID))
		return row, nil
	}
	f.from = append(f.from, *n.Spec.Template)
	if row.Spec.Template = *n.Spec.Template; row.Spec.Template != sandbox.DefaultTemplate && row.Spec.Template != "py" {
		return row, fault.New(fault.Invalid, "template_not_found", "there is no such template")
	}
	return row, nil
}

func (f *store) Hosts(context.Context) ([]control.HostInfo, error) {
	return []control.HostInfo{{Templates: []string{sandbox.DefaultTemplate}}, {Templates: []string{sandbox.DefaultTemplate}}}, nil
}

func (f *store) GetSnapshot(_ context.Context, id sandbox.SnapshotID) (control.Snapshot, error) {
	for _, snap := range f.snapshots() {
		if snap.ID == id {
			return snap, nil
		}
	}
	return control.Snapshot{}, fault.New(fault.NotFound, "snapshot_not_found", "no")
}

// ListSnapshots returns pages of one row.
func (f *store) ListSnapshots(_ context.Context, filter control.SnapshotFilter) ([]control.Snapshot, string, error) {
	all := f.snapshots()
	at := strings.Count(filter.Cursor, "x")
	next := filter.Cursor + "x"
	if at == len(all)-1 {
		next = ""
	}
	return all[at : at+1], next, nil
}

// TestReferences: the names that a client can give as the template of a create, and the sources
// that are tried for it.
func TestReferences(t *testing.T) {
	base := source{image: sandbox.DefaultTemplate}.buildID()
	for ref, want := range map[string]string{
		"base":                    "base minimal",
		"minimal":                 "minimal",
		"py":                      "py",
		"team/base":               "minimal",
		"base:default":            "minimal",
		"base:" + base:            "minimal",
		"base:v2":                 "",
		template:                  template,
		template + ":default":     template,
		"team/py":                 template,
		"mine":                    "mine older",
		"team/odd name:x":         template,
		"none":                    "none",
		"bbbbbbbbbbbbbbbbbbbb":    "",
		"Not A Name":              "",
		strings.Repeat("a", 1000): "",
	} {
		f := &store{}
		s := &server{Config: Config{Sandboxes: f, Log: quiet()}}
		_, err := s.createFrom(t.Context(), ref, control.NewSandbox{})
		if got := strings.Join(f.from, " "); got != want {
			t.Errorf("%.40q: tried %q, want %q", ref, got, want)
		}
		found := want != "" && want != "none"
		if found != (err == nil) || err != nil && errorOf(t.Context(), err).Code != 404 {
			t.Errorf("%.40q: %v, want found %t, else 404", ref, err, found)
		}
	}
}
