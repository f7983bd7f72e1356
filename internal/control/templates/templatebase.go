package templates

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// templateBase resolves a template: an image of the hosts, a built template or a
// snapshot, in this order.
func (b *builder) templateBase(ctx context.Context, ref string) (base, error) {
	b.log.add("info", baseStep, "[base] FROM template %s", ref)
	r, err := ParseReference(ref)
	if err != nil {
		return base{}, atStep(baseStep, "FROM template "+ref, err)
	}
	if strings.HasPrefix(r.Name, sandbox.ImportedTemplatePrefix) {
		// A name of an imported image would take the place of the registry's credentials.
		return base{}, failed(baseStep, "FROM template %s: a name that begins with %q is that of an imported image; give the reference of the image instead",
			ref, sandbox.ImportedTemplatePrefix)
	}
	hosts, err := b.Machines.Hosts(ctx)
	if err != nil {
		return base{}, err
	}
	if r.Tag == DefaultTag {
		if out, ok := builtIn(hosts, r.Name); ok {
			return out, nil
		}
	}
	t, build, err := b.Resolve(ctx, ref)
	switch {
	case err == nil && build.Status != Ready:
		return base{}, failed(baseStep, "the build %s of the template %s is not ready", build.ID, t.Name)
	case err == nil && build.Snapshot == "":
		return base{}, failed(baseStep, "%s", fault.As(SnapshotGone(build.ID)).Public)
	case err == nil:
		return base{
			key: digest("build", build.ID), snapshot: build.Snapshot, hostID: build.HostID, sizes: sizes{build.VCPUs, build.MemoryMB, build.DiskMB},
			state: state{user: build.User, workdir: build.Workdir, env: variablesOf(build.Env)},
		}, nil
	case !fault.Is(err, fault.NotFound):
		return base{}, atStep(baseStep, "FROM template "+ref, err)
	}
	return b.snapshotBase(ctx, ref, orMissingHost(hosts, r.Name, err))
}

// variablesOf returns env in the order of the names.
func variablesOf(env map[string]string) []plan.Variable {
	var out []plan.Variable
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, plan.Variable{Name: name, Value: env[name]})
	}
	return out
}

// builtIn returns the base of an image of the hosts. Hosts that answer have precedence. If
// they have different images with the name, the base is that of one host.
func builtIn(hosts []control.HostInfo, name string) (base, bool) {
	var with []control.HostInfo
	var digests = map[string]bool{}
	for _, reachable := range []bool{true, false} {
		for _, h := range hosts {
			if d, ok := h.TemplateDigest(name); ok && h.Reachable == reachable {
				with, digests[d] = append(with, h), true
			}
		}
		if len(with) > 0 {
			break
		}
	}
	if len(with) == 0 {
		return base{}, false
	}
	h := with[0]
	d, _ := h.TemplateDigest(name)
	out := base{key: digest("built-in", name, d, h.AgentVersion, h.GuestVersion), image: name}
	if len(digests) > 1 {
		out.hostID = h.ID
	}
	return out, true
}

// maxSnapshotPages bounds the search for a snapshot by its name.
const maxSnapshotPages = 20

// snapshotBase finds the named snapshot with an id or a name as a template.
func (b *builder) snapshotBase(ctx context.Context, ref string, unknown error) (base, error) {
	cursor := ""
	for range maxSnapshotPages {
		page, next, err := b.Machines.ListSnapshots(ctx, control.SnapshotFilter{Limit: 100, Cursor: cursor})
		if err != nil {
			return base{}, err
		}
		for _, s := range page {
			if s.Status == control.SnapshotReady && (string(s.ID) == ref || s.TemplateName == ref) {
				return base{
					key: digest("snapshot", s.ID), snapshot: s.ID, hostID: s.HostID, sizes: sizes{s.Spec.VCPUs, s.Spec.MemoryMB, s.Spec.DiskMB},
				}, nil
			}
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	return base{}, atStep(baseStep, "FROM template "+ref, unknown)
}
