package control

import (
	"context"
	"slices"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// resolve returns the whole spec of a create, and the snapshot that it starts
// from; the zero Snapshot is an image.
func (s *Service) resolve(ctx context.Context, n NewSandbox) (sandbox.Spec, Snapshot, error) {
	spec := n.Spec
	var from Snapshot
	var err error
	switch {
	case n.SnapshotID != "":
		from, err = s.GetSnapshot(ctx, n.SnapshotID)
	case spec.Template != "" && !s.isImage(spec.Template):
		from, err = s.store.TemplateSnapshot(ctx, spec.Template)
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
func (s *Service) isImage(name string) bool {
	return slices.ContainsFunc(s.fleet.Hosts(), func(h HostInfo) bool { return slices.Contains(h.Templates, name) })
}
