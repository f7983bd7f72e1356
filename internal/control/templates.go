package control

import (
	"context"
	"slices"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// templates is the use case that gives snapshots the names of templates, and finds
// the template or snapshot from which a new sandbox starts.
type templates struct {
	common
	store templateStore
}

// templateStore is the part of [Store] that templates needs.
type templateStore interface {
	snapshotReader
	TemplateSnapshot(ctx context.Context, name string) (Snapshot, error)
	NameTemplate(ctx context.Context, id sandbox.SnapshotID, name string) (row Snapshot, won bool, err error)
}

// resolve completes the spec of a create and finds the snapshot that it starts from;
// the zero Snapshot is an image.
func (t *templates) resolve(ctx context.Context, n NewSandbox) (sandbox.Spec, Snapshot, error) {
	spec, err := n.Spec.Complete(t.fleet.Hosts())
	if err != nil {
		return spec, Snapshot{}, err
	}
	var from Snapshot
	byTemplate := n.SnapshotID == ""
	switch {
	case !byTemplate:
		from, err = namedSnapshot(ctx, t.store, n.SnapshotID)
	case n.Spec.Template != nil && !t.isImage(spec.Template):
		from, err = t.store.TemplateSnapshot(ctx, spec.Template)
		if fault.Is(err, fault.NotFound) {
			return spec, Snapshot{}, nil // placement says which templates there are
		}
	default:
		return spec, Snapshot{}, nil
	}
	if err != nil {
		return spec, Snapshot{}, err
	}
	if from.Status != SnapshotReady {
		return spec, Snapshot{}, snapshotNotReady(from)
	}
	spec, err = n.Spec.sizedBy(from, spec, byTemplate)
	return spec, from, err
}

// isImage reports whether a host has an image called name, as far as is known.
func (t *templates) isImage(name string) bool {
	return slices.ContainsFunc(t.fleet.Hosts(), func(h HostInfo) bool { return slices.Contains(h.Templates, name) })
}

// SetTemplate implements Snapshots.
func (t *templates) SetTemplate(ctx context.Context, id sandbox.SnapshotID, name string) (Snapshot, error) {
	if name != "" && (!sandbox.ValidTemplateName(name) || strings.HasPrefix(name, sandbox.ImportedTemplatePrefix)) {
		return Snapshot{}, fault.New(fault.Invalid, "invalid_template",
			"name must be of lower-case letters, digits, '.', '_' and '-', at most %d characters, and must not begin with %q",
			sandbox.MaxTemplateLen, sandbox.ImportedTemplatePrefix)
	}
	if name != "" && t.isImage(name) {
		return Snapshot{}, templateExists(nil)
	}
	if _, err := namedSnapshot(ctx, t.store, id); err != nil {
		return Snapshot{}, err
	}
	row, won, err := t.store.NameTemplate(ctx, id, name)
	switch {
	case fault.Is(err, fault.Exists):
		return Snapshot{}, templateExists(err)
	case err != nil:
		return Snapshot{}, err
	case !won:
		return Snapshot{}, snapshotNotReady(row)
	}
	return row, nil
}

func templateExists(cause error) error {
	return fault.Wrap(cause, fault.Exists, "template_exists", "there is a template with this name")
}
