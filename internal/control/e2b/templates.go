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
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// baseTemplate is the name that clients use if their user gives none. It is our default
// template, unless a host has an image of this name.
const baseTemplate = "base"

// defaultTag is the tag of a reference without one.
const defaultTag = "default"

// reference is the grammar of a template's name: [namespace/]alias[:tag]. Ids and names
// of snapshots are matched before it.
var reference = regexp.MustCompile(`^(?:[a-z0-9_-]+/)?([a-z0-9][a-z0-9._-]*)(?::([a-z0-9._-]+))?$`)

// source is the start of a sandbox: an image, or a snapshot.
type source struct {
	image    string
	snapshot sandbox.SnapshotID
	// row is the snapshot's.
	row control.Snapshot
}

// buildID returns the id of the only build of a source, as a UUID (RFC 9562, version 8).
func (src source) buildID() string {
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

// resolve finds the start that a client names: an image of a host, or a snapshot by its
// id, its name as a template, or its own name, of which the newest one counts.
func (s *server) resolve(ctx context.Context, ref string) (source, error) {
	if src, err := s.snapshotNamed(ctx, ref); err == nil || !fault.Is(err, fault.NotFound) {
		return src, err
	}
	match := reference.FindStringSubmatch(ref)
	if match == nil {
		return source{}, noTemplate(ref)
	}
	name, tag := match[1], match[2]
	src, err := s.image(ctx, name)
	if fault.Is(err, fault.NotFound) {
		src, err = s.snapshotNamed(ctx, name)
	}
	switch {
	case fault.Is(err, fault.NotFound):
		return source{}, noTemplate(ref)
	case err != nil:
		return source{}, err
	case tag != "" && tag != defaultTag && tag != src.buildID():
		return source{}, noTemplate(ref)
	}
	return src, nil
}

// errNoSource says that one way of finding a source has found none.
var errNoSource = fault.New(fault.NotFound, "template_not_found", "there is no such template")

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
		out = append(out, h.Templates...)
	}
	slices.Sort(out)
	return slices.Compact(out), err
}

// snapshotNamed returns the snapshot with the id or the name ref.
func (s *server) snapshotNamed(ctx context.Context, ref string) (source, error) {
	id, tag, _ := strings.Cut(ref, ":")
	if parsed, err := sandbox.ParseSnapshotID(id); err == nil && (tag == "" || tag == defaultTag) {
		snap, err := s.Sandboxes.GetSnapshot(ctx, parsed)
		if err == nil || !fault.Is(err, fault.NotFound) {
			return source{snapshot: snap.ID, row: snap}, err
		}
	}
	snap, err := s.findSnapshot(ctx, func(snap control.Snapshot) bool { return snap.TemplateName == ref || snap.Name == ref })
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
	if row.SnapshotID != "" {
		return string(row.SnapshotID)
	}
	return templateNameOf(row)
}

// templateNameOf returns the name of the image on which row is based.
func templateNameOf(row control.Sandbox) string {
	if row.Spec.Template == sandbox.DefaultTemplate {
		return baseTemplate
	}
	return row.Spec.Template
}
