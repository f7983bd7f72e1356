package control

import (
	"context"
	"slices"

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

// resolve returns the whole spec of a create, and the snapshot that it starts
// from; the zero Snapshot is an image.
func (t *templates) resolve(ctx context.Context, n NewSandbox) (sandbox.Spec, Snapshot, error) {
	spec := n.Spec
	var from Snapshot
	var err error
	switch {
	case n.SnapshotID != "":
		from, err = namedSnapshot(ctx, t.store, n.SnapshotID)
	case spec.Template != "" && !t.isImage(spec.Template):
		from, err = t.store.TemplateSnapshot(ctx, spec.Template)
		if fault.Is(err, fault.NotFound) {
			return spec.WithDefaults(), Snapshot{}, nil // placement says which templates there are
		}
		spec.Template = ""
	default:
		return spec.WithDefaults(), Snapshot{}, nil
	}
	if err != nil {
		return spec, Snapshot{}, err
	}
	if from.Status != SnapshotReady {
		return spec, Snapshot{}, snapshotNotReady(from)
	}
	spec, err = sized(spec, from)
	return spec.WithDefaults(), from, err
}

// sized returns spec with the template and the sizes of from, which it may
// repeat but not change.
func sized(spec sandbox.Spec, from Snapshot) (sandbox.Spec, error) {
	fixed := from.Spec
	for _, f := range []struct {
		name    string
		have    any
		differs bool
	}{
		{"template", fixed.Template, spec.Template != "" && spec.Template != fixed.Template},
		{"vcpus", fixed.VCPUs, spec.VCPUs != 0 && spec.VCPUs != fixed.VCPUs},
		{"memory_mb", fixed.MemoryMB, spec.MemoryMB != 0 && spec.MemoryMB != fixed.MemoryMB},
		{"disk_mb", fixed.DiskMB, spec.DiskMB != 0 && spec.DiskMB != fixed.DiskMB},
	} {
		if f.differs {
			return spec, fault.New(fault.Invalid, "snapshot_fixes_size",
				"%s comes from the snapshot, which has %v: leave it out", f.name, f.have)
		}
	}
	spec.Template, spec.VCPUs, spec.MemoryMB, spec.DiskMB = fixed.Template, fixed.VCPUs, fixed.MemoryMB, fixed.DiskMB
	return spec, nil
}

// isImage reports whether a host has an image called name, as far as is known.
func (t *templates) isImage(name string) bool {
	return slices.ContainsFunc(t.fleet.Hosts(), func(h HostInfo) bool { return slices.Contains(h.Templates, name) })
}

// SetTemplate implements Snapshots.
func (t *templates) SetTemplate(ctx context.Context, id sandbox.SnapshotID, name string) (Snapshot, error) {
	if name != "" && !sandbox.ValidTemplateName(name) {
		return Snapshot{}, fault.New(fault.Invalid, "invalid_template",
			"name must be of lower-case letters, digits, '.', '_' and '-', at most %d characters", sandbox.MaxTemplateLen)
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
