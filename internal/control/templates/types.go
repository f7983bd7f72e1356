package templates

import (
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// ID names a template permanently. It has the form of a sandbox's id.
type ID string

// BuildID names a build permanently: a UUID (RFC 9562).
type BuildID string

// DefaultTag is the tag of a reference without one.
const DefaultTag = sandbox.DefaultTag

// Template is a name under which sandboxes can be created, with the builds of it.
type Template struct {
	ID ID
	// Name is unique among templates and images; sandbox.ValidTemplateName holds.
	Name   string
	Public bool
	// VCPUs, MemoryMB and DiskMB are those of the newest build.
	VCPUs, MemoryMB, DiskMB int
	// Tags are the tags that name a build, in the order of their names.
	Tags []Tag
	// Latest is the newest build.
	Latest BuildID
	Status BuildStatus
	Builds int
	// Spawned counts the sandboxes that were created from it; SpawnedAt is the time of the
	// last, nil before the first.
	Spawned   int64
	SpawnedAt *time.Time
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Tag names a build of a template.
type Tag struct {
	Name      string
	Build     BuildID
	CreatedAt time.Time
}

// BuildStatus is the state of a build.
type BuildStatus string

// The statuses of builds.
const (
	// Waiting: its files are being uploaded, or it waits for its turn.
	Waiting  BuildStatus = "waiting"
	Building BuildStatus = "building"
	Ready    BuildStatus = "ready"
	Failed   BuildStatus = "error"
)

// Ended reports whether s is final.
func (s BuildStatus) Ended() bool { return s == Ready || s == Failed }

// Build is one build of a template.
type Build struct {
	ID       BuildID
	Template ID
	Status   BuildStatus
	// Tags are the tags that it gets when it is ready.
	Tags                    []string
	VCPUs, MemoryMB, DiskMB int
	Runtime                 sandbox.Runtime
	// Reason says why it failed; nil before that.
	Reason *Reason
	// Snapshot is the snapshot that sandboxes start from; empty until it is ready, and
	// when it has been removed because nothing names the build.
	Snapshot sandbox.SnapshotID
	// HostID is the host that has the snapshot.
	HostID string
	// User and Workdir are those of commands in sandboxes made from it; empty is the
	// guest's default.
	User, Workdir string
	// Env is the environment of commands in such sandboxes, below that of their create;
	// sandbox.ValidateEnv holds.
	Env map[string]string
	// Step and Steps tell how far it is.
	Step, Steps int
	// Import is the import of a base image that is under way; nil if there is none. Only
	// the server that carries out the build tells it, to followers.
	Import     *Import
	CreatedAt  time.Time
	UpdatedAt  time.Time
	StartedAt  *time.Time
	FinishedAt *time.Time
}

// Import tells how far the import of a base image is.
type Import struct {
	// Detail is a line of text for people, such as "pull debian:13".
	Detail string
	// Done and Total are in bytes; Total is 0 where it is not known.
	Done, Total int64
}

// Reason is the reason of a failure.
type Reason struct {
	Message string
	// Step is the ID of the step, "base" or "finalize".
	Step string
}

// LogEntry is one line of a build's log.
type LogEntry struct {
	// Seq counts the entries of a build, from 1.
	Seq int64
	At  time.Time
	// Level is "debug", "info", "warn" or "error".
	Level string
	// Step is the ID of the step, "base" or "finalize"; empty is none.
	Step    string
	Message string
}

// Layer is a snapshot of a build after one of its steps, kept so that later builds start
// from it.
type Layer struct {
	// Key is the SHA-256, in hex, of everything that the layer's content depends on.
	Key      string
	Snapshot sandbox.SnapshotID
	HostID   string
	// Build is the build that made it.
	Build     BuildID
	Bytes     uint64
	CreatedAt time.Time
	UsedAt    time.Time
}

// ValidTag reports whether s can be a tag: lower-case letters, digits, '_', and after the
// first character '.' and '-'; at most 128 characters.
func ValidTag(s string) bool { return sandbox.ValidTag(s) }

// Reference names a build of a template: [namespace/]name[:tag]. The tag may be the id of
// a build. The namespace is ignored, because an installation has one.
type Reference struct{ Name, Tag string }

// ParseReference reads a reference. The tag is DefaultTag if there is none. The error is
// Invalid with the reason invalid_template.
func ParseReference(s string) (Reference, error) {
	ref, err := sandbox.ParseTemplateRef(s)
	return Reference{Name: ref.Name, Tag: ref.Tag}, err
}

// Resolved returns t with the build b that a tag of it names, nil if it has no such tag,
// as the control plane wants it.
func (t Template) Resolved(b *Build) control.ResolvedTemplate {
	out := control.ResolvedTemplate{ID: string(t.ID), Name: t.Name, Status: string(t.Status)}
	for _, tag := range t.Tags {
		out.Tags = append(out.Tags, tag.Name)
	}
	if b == nil {
		return out
	}
	out.Build, out.BuildStatus, out.User, out.Workdir, out.Env = string(b.ID), string(b.Status), b.User, b.Workdir, b.Env
	if b.Status == Ready {
		out.Snapshot = b.Snapshot
	}
	return out
}
