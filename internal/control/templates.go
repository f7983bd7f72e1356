package control

import (
	"context"
	"maps"
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
	ResolveTemplate(ctx context.Context, name, tag string) (ResolvedTemplate, error)
	CountSpawn(ctx context.Context, templateID string) error
	NameTemplate(ctx context.Context, id sandbox.SnapshotID, name string) (row Snapshot, won bool, err error)
}

// resolve completes the spec of a create and finds the snapshot that it starts from;
// the zero Snapshot is an image. A name is that of an image, else of a template, else of
// a snapshot.
func (t *templates) resolve(ctx context.Context, n NewSandbox) (sandbox.Spec, Snapshot, error) {
	ref := sandbox.TemplateRef{Name: sandbox.DefaultTemplate, Tag: sandbox.DefaultTag}
	given := n.Spec.Template
	if given != nil {
		var err error
		if ref, err = sandbox.ParseTemplateRef(*given); err != nil {
			return sandbox.Spec{}, Snapshot{}, err
		}
		if strings.HasPrefix(ref.Name, sandbox.ImportedTemplatePrefix) {
			return sandbox.Spec{}, Snapshot{}, errImportedTemplate(ref.Name)
		}
		n.Spec.Template = &ref.Name
	}
	spec, err := n.Spec.Complete(t.fleet.Hosts())
	if err != nil {
		return spec, Snapshot{}, err
	}
	if n.SnapshotID != "" {
		from, err := namedSnapshot(ctx, t.store, n.SnapshotID)
		if err != nil {
			return spec, Snapshot{}, err
		}
		n.Spec.Template = given
		return n.Spec.startingFrom(from, spec, false)
	}
	if given == nil || ref.Tag == sandbox.DefaultTag && t.isImage(ref.Name) {
		return spec, Snapshot{}, nil
	}
	from, err := t.built(ctx, ref)
	if fault.Is(err, fault.NotFound) {
		from, err = t.store.TemplateSnapshot(ctx, ref.Name)
		if err == nil && ref.Tag != sandbox.DefaultTag {
			return spec, Snapshot{}, noTag(ref.Name, ref.Tag, nil)
		}
	}
	switch {
	case fault.Is(err, fault.NotFound) && t.isImage(ref.Name):
		return spec, Snapshot{}, noTag(ref.Name, ref.Tag, nil)
	case fault.Is(err, fault.NotFound):
		return spec, Snapshot{}, nil // placement says which templates there are
	case err != nil:
		return spec, Snapshot{}, err
	}
	return n.Spec.startingFrom(from, spec, true)
}

// startingFrom returns spec with the settings that a ready snapshot fixes.
func (r SpecRequest) startingFrom(from Snapshot, spec sandbox.Spec, byTemplate bool) (sandbox.Spec, Snapshot, error) {
	if from.Status != SnapshotReady {
		return spec, Snapshot{}, snapshotNotReady(from)
	}
	spec, err := r.sizedBy(from, spec, byTemplate)
	if err == nil && len(from.Spec.Env) > 0 {
		spec.Env, err = addEnv(from.Spec.Env, spec.Env)
	}
	return spec, from, err
}

// addEnv returns the environment of a template with own over it. The caller cannot read the
// environment of the template, so that an error tells its share.
func addEnv(template, own map[string]string) (map[string]string, error) {
	env := maps.Clone(template)
	maps.Copy(env, own)
	err := sandbox.ValidateEnv(env)
	if err == nil {
		return env, nil
	}
	size := 0
	for name, value := range template {
		size += len(name) + len(value)
	}
	return nil, fault.Wrap(err, fault.Invalid, "invalid_env", "%s, together with the environment of the template, which has %d entries and %d bytes",
		fault.As(err).Public, len(template), size)
}

// built returns the snapshot of the build that ref names. It is NotFound if there is no
// such template.
func (t *templates) built(ctx context.Context, ref sandbox.TemplateRef) (Snapshot, error) {
	found, err := t.store.ResolveTemplate(ctx, ref.Name, ref.Tag)
	switch {
	case err != nil:
		return Snapshot{}, err
	case found.Build == "" && len(found.Tags) == 0:
		return Snapshot{}, fault.New(fault.WrongState, "build_state",
			"the template %s has no build that is ready; the status of its newest build is %s", found.Name, found.Status)
	case found.Build == "":
		return Snapshot{}, noTag(found.Name, ref.Tag, found.Tags)
	case found.Snapshot == "" && found.BuildStatus == "ready":
		return Snapshot{}, fault.New(fault.WrongState, "build_state",
			"the snapshot of build %s of the template %s has been removed because no tag named the build; build it again", found.Build, found.Name)
	case found.Snapshot == "":
		return Snapshot{}, fault.New(fault.WrongState, "build_state",
			"build %s of the template %s is not ready; its status is %s", found.Build, found.Name, found.BuildStatus)
	}
	from, err := t.store.GetSnapshot(ctx, found.Snapshot)
	if fault.Is(err, fault.NotFound) {
		return Snapshot{}, fault.Wrap(err, fault.WrongState, "build_state",
			"the snapshot of build %s of the template %s does not exist any more; build it again", found.Build, found.Name)
	}
	if err != nil {
		return Snapshot{}, err
	}
	from.Spec.TemplateID, from.Spec.TemplateRef = found.ID, found.Name
	if ref.Tagged {
		from.Spec.TemplateRef += ":" + ref.Tag
	}
	from.Spec.User, from.Spec.Workdir, from.Spec.Env = found.User, found.Workdir, found.Env
	return from, nil
}

// maxTagsNamed bounds how many tags a message lists.
const maxTagsNamed = 20

// noTag is the fault of a create that names a tag which a template does not have.
func noTag(name, tag string, tags []string) error {
	list := strings.Join(tags[:min(len(tags), maxTagsNamed)], ", ")
	switch {
	case len(tags) == 0:
		list = "none"
	case len(tags) > maxTagsNamed:
		list += ", ..."
	}
	return fault.New(fault.Invalid, "template_not_found", "the template %s has no tag %q; there are: %s", name, tag, list)
}

// countSpawn counts a sandbox that was created from a template.
func (t *templates) countSpawn(ctx context.Context, id string) {
	ctx, cancel := t.detached(ctx, 0)
	defer cancel()
	if err := t.store.CountSpawn(ctx, id); err != nil {
		t.log.Warn("a sandbox from a template is not counted", "template", id, "error", err)
	}
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

// errImportedTemplate is the fault of a create that names an image which a build has imported,
// perhaps with the credentials of another caller.
func errImportedTemplate(name string) error {
	return fault.New(fault.Invalid, "invalid_template",
		"%s is the name of an imported image, which builds alone use; build a template from the image and name that", name)
}

func templateExists(cause error) error {
	return fault.Wrap(cause, fault.Exists, "template_exists", "there is a template with this name")
}
