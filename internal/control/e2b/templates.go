package e2b

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// baseTemplate is the name that clients use if their user gives none. It is our default
// template, unless a host has an image of this name.
const baseTemplate = "base"

// defaultTag is the tag of a reference without one.
const defaultTag = templates.DefaultTag

// reference is the grammar of a template's name: [namespace/]alias[:tag]. Ids and names
// of snapshots are matched before it.
var reference = regexp.MustCompile(`^(?:[a-z0-9_-]+/)?([a-z0-9][a-z0-9._-]*)(?::([a-z0-9._-]+))?$`)

// source is the start of a sandbox: an image, a snapshot, or a built template.
type source struct {
	image    string
	snapshot sandbox.SnapshotID
	// row is the snapshot's.
	row control.Snapshot
	// built is the template that builds made; its ID is empty for the others.
	built templates.Template
	// tag is the one in the reference to a built template, or empty. It names a build
	// then.
	tag string
}

// isBuilt reports whether builds made the source.
func (src source) isBuilt() bool { return src.built.ID != "" }

// reference names the source, which is a built template, for the control plane.
func (src source) reference() string {
	if src.tag == "" {
		return src.built.Name
	}
	return src.built.Name + ":" + src.tag
}

// buildID returns the id of the newest build of a built template. Another source has one
// build, whose id is a UUID of its name (RFC 9562, version 8).
func (src source) buildID() string {
	if src.isBuilt() {
		return string(src.built.Latest)
	}
	sum := sha256.Sum256([]byte("wrenn template " + src.image + " " + string(src.snapshot)))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

func noTemplate(name string) error {
	const most = 128
	if len(name) > most {
		name = name[:most]
	}
	return refuse(http.StatusNotFound, "", "template '%s' not found", name)
}

// resolve finds the start that a client names: a snapshot by its id, a built template by
// its id or name, an image of a host, or a snapshot by its name as a template or its own
// name, of which the newest counts.
func (s *server) resolve(ctx context.Context, ref string) (source, error) {
	name, tag := ref, ""
	if match := reference.FindStringSubmatch(ref); match != nil {
		name, tag = match[1], match[2]
	}
	for _, find := range []func(context.Context, string) (source, error){s.snapshotByID, s.builtByName, s.image, s.snapshotByName} {
		src, err := find(ctx, name)
		if err == nil && src.isBuilt() {
			return s.tagged(ctx, src, tag)
		}
		switch {
		case fault.Is(err, fault.NotFound):
			continue
		case err != nil:
			return source{}, err
		case tag != "" && tag != defaultTag && tag != src.buildID():
			return source{}, noTemplate(ref)
		}
		return src, nil
	}
	if name == ref {
		return source{}, noTemplate(ref)
	}
	// A snapshot's own name may have the form of a reference with a tag.
	src, err := s.snapshotByName(ctx, ref)
	if fault.Is(err, fault.NotFound) {
		err = noTemplate(ref)
	}
	return src, err
}

// builtByName returns the built template with the id or the name.
func (s *server) builtByName(ctx context.Context, name string) (source, error) {
	name = strings.ToLower(name)
	if _, err := templates.ParseReference(name); s.Templates == nil || err != nil {
		return source{}, errNoSource
	}
	t, err := s.Templates.Get(ctx, name)
	return source{built: t}, err
}

// tagged returns src with the tag of its reference, which has to name a build. Empty is
// none.
func (s *server) tagged(ctx context.Context, src source, tag string) (source, error) {
	if src.tag = tag; tag == "" {
		return src, nil
	}
	_, _, err := s.Templates.Resolve(ctx, src.reference())
	if fault.Is(err, fault.NotFound) || fault.ReasonOf(err) == reasonNoTemplate {
		return source{}, noTemplate(src.reference())
	}
	return src, err
}

// reasonNoTemplate is the reason of a create from a template that does not exist.
const reasonNoTemplate = "template_not_found"

// errNoSource says that one way of finding a source has found none.
var errNoSource = fault.New(fault.NotFound, reasonNoTemplate, "there is no such template")

// isID reports whether ref has the form of the id of a snapshot.
func isID(ref string) bool {
	_, err := sandbox.ParseSnapshotID(ref)
	return err == nil && len(ref) == len(sandbox.NewSnapshotID())
}

// image returns the image that a client calls name.
func (s *server) image(ctx context.Context, name string) (source, error) {
	images, err := s.images(ctx)
	switch {
	case err != nil:
		return source{}, err
	case slices.Contains(images, name):
		return source{image: name}, nil
	case name == baseTemplate:
		return source{image: sandbox.DefaultTemplate}, nil
	default:
		return source{}, errNoSource
	}
}

// images returns the names of the images that hosts have, each once.
func (s *server) images(ctx context.Context) ([]string, error) {
	hosts, err := s.Sandboxes.Hosts(ctx)
	var out []string
	for _, h := range hosts {
		out = append(out, sandbox.PublicTemplates(h.Templates)...)
	}
	slices.Sort(out)
	return slices.Compact(out), err
}

func (s *server) snapshotByID(ctx context.Context, ref string) (source, error) {
	if !isID(ref) {
		return source{}, errNoSource
	}
	snap, err := s.Sandboxes.GetSnapshot(ctx, sandbox.SnapshotID(ref))
	return source{snapshot: snap.ID, row: snap}, err
}

// snapshotByName returns the newest ready snapshot that is the template name, or has the
// name.
func (s *server) snapshotByName(ctx context.Context, name string) (source, error) {
	snap, err := s.findSnapshot(ctx, func(snap control.Snapshot) bool { return snap.TemplateName == name || snap.Name == name })
	return source{snapshot: snap.ID, row: snap}, err
}

// findSnapshot returns the newest ready snapshot for which is holds.
func (s *server) findSnapshot(ctx context.Context, is func(control.Snapshot) bool) (control.Snapshot, error) {
	f := control.SnapshotFilter{Limit: maxPage}
	for {
		rows, next, err := s.Sandboxes.ListSnapshots(ctx, f)
		if err != nil {
			return control.Snapshot{}, err
		}
		for _, snap := range rows {
			if snap.Status == control.SnapshotReady && is(snap) {
				return snap, nil
			}
		}
		if f.Cursor = next; next == "" {
			return control.Snapshot{}, errNoSource
		}
	}
}

// templateIDOf returns the id of the template or snapshot from which row was made.
func templateIDOf(row control.Sandbox) string {
	switch {
	case row.Spec.TemplateID != "":
		return row.Spec.TemplateID
	case row.SnapshotID != "":
		return string(row.SnapshotID)
	default:
		return templateNameOf(row)
	}
}

// templateNameOf returns the name of the built template or of the image on which row is
// based.
func templateNameOf(row control.Sandbox) string {
	if row.Spec.TemplateID != "" {
		name, _, _ := strings.Cut(row.Spec.TemplateRef, ":")
		return name
	}
	if row.Spec.Template == sandbox.DefaultTemplate {
		return baseTemplate
	}
	return row.Spec.Template
}
