package templates

import (
	"context"
	"io"
	"time"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// API is everything that the edges can do with templates; *Service implements it.
type API interface {
	// List returns templates by name, and the cursor of the next page or "".
	List(ctx context.Context, limit int, cursor string) ([]Template, string, error)
	// Get finds a template by its id or its name; a tag is ignored. It is NotFound
	// template_not_found if there is none.
	Get(ctx context.Context, ref string) (Template, error)
	// Resolve finds the build that a reference names: id or name, with a tag or the id of
	// a build.
	Resolve(ctx context.Context, ref string) (Template, Build, error)
	// Delete removes a template with its builds, and ends a build under way. Sandboxes
	// made from it continue.
	Delete(ctx context.Context, ref string) error
	SetPublic(ctx context.Context, ref string, public bool) (Template, error)

	// Begin makes a build in the status Waiting, and the template if its name is new.
	Begin(ctx context.Context, n NewBuild) (Template, Build, error)
	// Start carries out p as the build id, which must be Waiting. It returns when the
	// build is Building; a build of the same template under way is ended with a reason.
	Start(ctx context.Context, id BuildID, p plan.Plan, in Inputs) error
	// BuildDockerfile is Begin and Start with the text of a Dockerfile. Everything that can
	// be wrong is checked before Begin, so that an error changes nothing: an error in the
	// text is Invalid invalid_dockerfile with the line, an upload that is not here is
	// NotFound upload_not_found.
	BuildDockerfile(ctx context.Context, n NewBuild, d Dockerfile, in Inputs) (Template, Build, error)
	Cancel(ctx context.Context, id BuildID) error
	GetBuild(ctx context.Context, id BuildID) (Build, error)
	// Builds returns the builds of a template, newest first, at most 100.
	Builds(ctx context.Context, id ID) ([]Build, error)
	// Logs returns the entries after seq, at most limit.
	Logs(ctx context.Context, id BuildID, seq int64, limit int) ([]LogEntry, error)
	// Follow passes on entries after seq as they come, and returns when the build has
	// ended and all were passed on. An entry with the Seq 0 is none: then only
	// Build.Import has changed.
	Follow(ctx context.Context, id BuildID, seq int64, sink func(LogEntry, Build) error) (Build, error)

	Tags(ctx context.Context, ref string) ([]Tag, error)
	// SetTags makes tags name the build that ref names, which must be Ready.
	SetTags(ctx context.Context, ref string, tags []string) (BuildID, error)
	// RemoveTags takes tags away. DefaultTag is Invalid, an unknown one NotFound.
	RemoveTags(ctx context.Context, name string, tags []string) error

	// HasBlob reports whether an upload with the key is here, and keeps it for another day.
	HasBlob(ctx context.Context, key BlobKey) (bool, error)
	// PutBlob stores an upload. If Digest is set the content must have it.
	PutBlob(ctx context.Context, key BlobKey, content io.Reader) error
}

// NewBuild is a request for a build.
type NewBuild struct {
	// Name is a reference; its tag is one of the tags.
	Name string
	Tags []string
	// VCPUs, MemoryMB and DiskMB are 0 for the defaults: 2, 1024, sandbox.DefaultDiskMB.
	VCPUs, MemoryMB, DiskMB int
	Runtime                 sandbox.Runtime
}

// Inputs are the parts of a build that are never stored. A restart of the server during a
// build that has secrets or credentials ends it with a reason.
type Inputs struct {
	// Secrets are the values by id.
	Secrets map[string][]byte
	// Registry are the credentials for every base image; the zero value is those of the host.
	Registry Credentials
	// Registries are credentials by the host name of a registry, such as ghcr.io or
	// docker.io; they win over Registry. Those of one registry are never sent to another.
	Registries map[string]Credentials
}

// Credentials are a user name and a password of a registry.
type Credentials struct{ Username, Password string }

// Dockerfile is a build given as text.
type Dockerfile struct {
	Text string
	// Context is the digest of the uploaded archive, which no template owns (see BlobKey);
	// empty is an empty context.
	Context string
	// Target is the stage that becomes the template; empty is the last.
	Target string
	Args   map[string]string
	// Start and Ready replace the commands that the text gives.
	Start, Ready string
	NoCache      bool
	// StepTimeout bounds each RUN; 0 is plan.DefaultStepTimeout. It is at most
	// plan.MaxStepTimeout, and no part of the keys of layers.
	StepTimeout time.Duration
	// From replaces the base of the stage that becomes the template; the zero value leaves
	// it. With an empty Text it is the whole template. An Archive is a digest as Context is.
	From plan.Base
}

// BlobKey names an upload.
type BlobKey struct {
	// Template separates the uploads of templates. Empty are the uploads that every build
	// may use, whose Key is their Digest.
	Template ID
	// Key is chosen by the uploader: 1 to 128 letters, digits, '_' and '-'.
	Key string
	// Digest is the SHA-256 of the content in hex, or empty.
	Digest string
}

// Machines are the use cases of the control plane that builds need. *control.Service
// implements it.
type Machines interface {
	// CreateMachine creates a sandbox that lists do not show, in which a build runs.
	CreateMachine(ctx context.Context, m control.NewMachine) (control.Sandbox, error)
	// MachinesOf returns the sandboxes of a build that have not ended; empty is of all.
	MachinesOf(ctx context.Context, build string) ([]control.Sandbox, error)
	Destroy(ctx context.Context, id sandbox.ID) error
	// KeepSnapshot takes a snapshot that lists of snapshots do not show.
	KeepSnapshot(ctx context.Context, id sandbox.ID, k control.KeptSnapshot) (control.Snapshot, error)
	// DropSnapshot deletes such a snapshot. One that is gone is no error.
	DropSnapshot(ctx context.Context, id sandbox.SnapshotID) error
	Exec(ctx context.Context, id sandbox.ID, e control.Exec, sink control.ExecSink) (control.ExecResult, error)
	WriteFile(ctx context.Context, id sandbox.ID, w control.WriteFile, content io.Reader) (int64, error)
	ReadFile(ctx context.Context, id sandbox.ID, r control.ReadFile) (*control.File, error)
	CallFile(ctx context.Context, id sandbox.ID, call control.FileCall) (control.FilePage, error)
	CallProcess(ctx context.Context, id sandbox.ID, call control.ProcessCall) ([]control.Process, error)
	AttachProcess(ctx context.Context, id sandbox.ID, a control.ProcessAttach, sink control.ProcessSink) (control.Process, error)
	// ImportImage makes an image of a registry, or of the archive content, usable on a host;
	// an empty hostID is any. It returns the host.
	ImportImage(ctx context.Context, hostID string, src control.ImageSource, content io.Reader, progress func(control.ImageProgress)) (control.HostImage, string, error)
	// GetKept finds a snapshot of KeepSnapshot. It is NotFound if there is none.
	GetKept(ctx context.Context, id sandbox.SnapshotID) (control.Snapshot, error)
	ListSnapshots(ctx context.Context, f control.SnapshotFilter) ([]control.Snapshot, string, error)
	Hosts(ctx context.Context) ([]control.HostInfo, error)
}

// Store keeps templates, builds, tags, logs and layers. Every change is one transaction.
type Store interface {
	// InsertBuild writes a build, and its template if the name is new: then t.ID is its id.
	// It is Exists template_exists if the name is that of a snapshot.
	InsertBuild(ctx context.Context, t Template, b Build) (Template, Build, error)
	// GetTemplate finds a template by id or name.
	GetTemplate(ctx context.Context, idOrName string) (Template, error)
	ListTemplates(ctx context.Context, limit int, cursor string) ([]Template, string, error)
	SetPublic(ctx context.Context, id ID, public bool) (Template, error)
	// DeleteTemplate removes the rows of a template and returns the snapshots of its builds.
	DeleteTemplate(ctx context.Context, id ID) ([]sandbox.SnapshotID, error)

	GetBuild(ctx context.Context, id BuildID) (Build, error)
	// FindBuild finds the build that a tag of a template, or a build's id, names.
	FindBuild(ctx context.Context, template ID, tag string) (Build, error)
	Builds(ctx context.Context, template ID, limit int) ([]Build, error)
	// StartBuild moves a build from Waiting to Building with its plan, claimed by the
	// server with the id, and returns the builds of the template that it supersedes, which are
	// Failed then.
	StartBuild(ctx context.Context, id BuildID, p plan.Plan, server control.ServerID, hasInputs bool) (Build, []BuildID, error)
	// Progress writes how far a build is. It is WrongState if the build is not Building under
	// the server, because it has ended or another server has claimed it.
	Progress(ctx context.Context, id BuildID, server control.ServerID, step, steps int) error
	// FinishBuild moves a build from Building to Ready or Failed, as b says, with the sizes, the
	// snapshot and the defaults of b, and in the first case moves its tags to it. won is false
	// if the build is not Building under the server any more.
	FinishBuild(ctx context.Context, b Build, server control.ServerID) (won bool, err error)
	// FailBuild moves a build that has not ended to Failed. A server other than 0 changes
	// only a build that it has claimed.
	FailBuild(ctx context.Context, id BuildID, server control.ServerID, r Reason) (won bool, err error)
	// Orphans claims the builds that are Building under a server that is not live, for the server
	// with the id, and returns their ids. With an error it returns those that it has claimed
	// before. It reads no plans.
	Orphans(ctx context.Context, server control.ServerID) ([]BuildID, error)
	// Owned returns the ids of the builds that are Building under the server, the oldest first.
	// It reads no plans.
	Owned(ctx context.Context, server control.ServerID) ([]BuildID, error)
	// OwnedBuild returns a build with its plan. owned is false, without an error, if the build is
	// not Building under the server. It is the only method that reads a plan. The error has the
	// reason ReasonPlan if the stored plan cannot be read.
	OwnedBuild(ctx context.Context, id BuildID, server control.ServerID) (o OwnedBuild, owned bool, err error)
	// Expire removes old rows as e says, and returns the snapshots that nothing names any
	// more.
	Expire(ctx context.Context, e Expiry) ([]sandbox.SnapshotID, error)

	// AppendLogs adds entries to the log of a build which the server has claimed last, also
	// after the build has ended. It is WrongState if another server has the build.
	AppendLogs(ctx context.Context, id BuildID, server control.ServerID, entries []LogEntry) error
	Logs(ctx context.Context, id BuildID, seq int64, limit int) ([]LogEntry, error)

	Tags(ctx context.Context, template ID) ([]Tag, error)
	SetTags(ctx context.Context, template ID, build BuildID, tags []string) error
	RemoveTags(ctx context.Context, template ID, tags []string) error
	// CountSpawn counts a sandbox created from a template.
	CountSpawn(ctx context.Context, id ID) error

	// FindLayer returns the layer of the last of keys that has one, and marks it as used.
	// With made it considers the layers of that build only.
	FindLayer(ctx context.Context, keys []string, made BuildID) (Layer, bool, error)
	// InsertLayer keeps a layer; if there is one with the key, it returns the snapshot that is not needed:
	// the older one.
	InsertLayer(ctx context.Context, l Layer) (sandbox.SnapshotID, error)
	// RemoveLayer removes the layer with the key, if it has the snapshot.
	RemoveLayer(ctx context.Context, key string, snapshot sandbox.SnapshotID) error
	// TrimLayers removes the layers that were used least recently until at most count and
	// bytes remain, and returns their snapshots.
	TrimLayers(ctx context.Context, count int, bytes uint64) ([]sandbox.SnapshotID, error)
}

// Expiry says which rows are old.
type Expiry struct {
	// The snapshot of a ready build that no tag names goes when it is older than Untagged,
	// except the newest Keep of each template.
	Keep     int
	Untagged time.Duration
	// A build that has been Waiting for longer than Waiting fails.
	Waiting time.Duration
	// A snapshot of the kind layer or template that neither a build nor a layer names goes
	// when it is older than Stray. It must be longer than the time from the begin of a
	// snapshot until its row is written.
	Stray time.Duration
}

// OwnedBuild is a build that a server carries out, with its plan.
type OwnedBuild struct {
	Build Build
	Plan  plan.Plan
	// HasInputs says that it was started with secrets or credentials, which are not stored.
	HasInputs bool
}
