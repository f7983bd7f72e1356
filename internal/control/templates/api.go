package templates

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/build/dockerfile"
	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Defaults and bounds of NewBuild.
const (
	defaultVCPUs    = 2
	defaultMemoryMB = 1024
)

// MaxBuildTags is the most tags of one request.
const MaxBuildTags = 64

// Bounds of Inputs.
const (
	maxSecrets     = 100
	maxSecretBytes = 512 << 10
)

// List implements API.
func (s *Service) List(ctx context.Context, limit int, cursor string) ([]Template, string, error) {
	return s.Store.ListTemplates(ctx, limit, cursor)
}

// Get implements API.
func (s *Service) Get(ctx context.Context, ref string) (Template, error) {
	r, err := ParseReference(ref)
	if err != nil {
		return Template{}, NotFound(ref)
	}
	return s.Store.GetTemplate(ctx, r.Name)
}

// Resolve implements API.
func (s *Service) Resolve(ctx context.Context, ref string) (Template, Build, error) {
	r, err := ParseReference(ref)
	if err != nil {
		return Template{}, Build{}, err
	}
	t, err := s.Store.GetTemplate(ctx, r.Name)
	if err != nil {
		return Template{}, Build{}, err
	}
	b, err := s.Store.FindBuild(ctx, t.ID, r.Tag)
	return t, b, err
}

// The causes that end a build under way.
var (
	errCanceled   = errors.New("the build was canceled")
	errSuperseded = errors.New(Superseded)
	errDeleted    = errors.New("the template was deleted")
	// errClaimed says that another server carries out the build.
	errClaimed = errors.New("another server carries out the build")
)

// endedElsewhere is the cause of a build under way that another server has ended. Its text is the
// reason in the store.
type endedElsewhere string

// Error implements error.
func (e endedElsewhere) Error() string { return string(e) }

// Delete implements API.
func (s *Service) Delete(ctx context.Context, ref string) error {
	t, err := s.Get(ctx, ref)
	if err != nil {
		return err
	}
	builds, err := s.Store.Builds(ctx, t.ID, KeptBuilds)
	if err != nil {
		return err
	}
	for _, b := range builds {
		s.interrupt(errDeleted, b.ID)
	}
	snapshots, err := s.Store.DeleteTemplate(ctx, t.ID)
	if err != nil {
		return err
	}
	s.blobs.removeTemplate(t.ID)
	s.drop(context.WithoutCancel(ctx), snapshots...)
	s.notify()
	return nil
}

// drop deletes snapshots that no row names any more. The host's report of a snapshot
// without a row lets the maintenance repeat a failed one.
func (s *Service) drop(ctx context.Context, ids ...sandbox.SnapshotID) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, id := range ids {
		if id == "" {
			continue
		}
		if err := s.Machines.DropSnapshot(ctx, id); err != nil {
			s.Log.Warn("a snapshot of a template could not be deleted", "snapshot", id, "err", err)
		}
	}
}

// SetPublic implements API.
func (s *Service) SetPublic(ctx context.Context, ref string, public bool) (Template, error) {
	t, err := s.Get(ctx, ref)
	if err != nil {
		return Template{}, err
	}
	return s.Store.SetPublic(ctx, t.ID, public)
}

// newBuildID returns a fresh UUID of version 4 (RFC 9562).
func newBuildID() BuildID {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return BuildID(fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]))
}

// Begin implements API.
func (s *Service) Begin(ctx context.Context, n NewBuild) (Template, Build, error) {
	r, err := ParseReference(n.Name)
	if err != nil {
		return Template{}, Build{}, err
	}
	tags := slices.Clone(n.Tags)
	if strings.Contains(n.Name, ":") || len(tags) == 0 {
		tags = append([]string{r.Tag}, tags...)
	}
	slices.Sort(tags)
	tags = slices.Compact(tags)
	if len(tags) > MaxBuildTags {
		return Template{}, Build{}, fault.New(fault.Invalid, "invalid_template", "a build gets at most %d tags", MaxBuildTags)
	}
	for _, tag := range tags {
		if !ValidTag(tag) {
			return Template{}, Build{}, fault.New(fault.Invalid, "invalid_template", "%.64q cannot be a tag", tag)
		}
	}
	if err := s.free(ctx, r.Name); err != nil {
		return Template{}, Build{}, err
	}
	b := Build{ID: newBuildID(), Status: Waiting, Tags: tags, VCPUs: n.VCPUs, MemoryMB: n.MemoryMB, DiskMB: n.DiskMB, Runtime: n.Runtime}
	if err := b.complete(); err != nil {
		return Template{}, Build{}, err
	}
	return s.Store.InsertBuild(ctx, Template{
		ID: ID(sandbox.NewID()), Name: r.Name, VCPUs: b.VCPUs, MemoryMB: b.MemoryMB, DiskMB: b.DiskMB,
	}, b)
}

// complete fills in the defaults of the sizes, and checks them.
func (b *Build) complete() error {
	if b.VCPUs == 0 {
		b.VCPUs = defaultVCPUs
	}
	if b.MemoryMB == 0 {
		b.MemoryMB = defaultMemoryMB
	}
	if b.DiskMB == 0 {
		b.DiskMB = sandbox.DefaultDiskMB
	}
	spec := sandbox.Spec{VCPUs: b.VCPUs, MemoryMB: b.MemoryMB, DiskMB: b.DiskMB, Runtime: b.Runtime}.WithDefaults()
	return spec.Validate()
}

// free refuses the names of images, because creates would find the image. Which there are is not
// known before a host has reported.
func (s *Service) free(ctx context.Context, name string) error {
	if strings.HasPrefix(name, sandbox.ImportedTemplatePrefix) {
		return fault.New(fault.Invalid, "invalid_template", "the name of a template must not begin with %q: hosts name imported images so", sandbox.ImportedTemplatePrefix)
	}
	hosts, err := s.Machines.Hosts(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(hosts, func(h control.HostInfo) bool { return h.Reachable || !h.SeenAt.IsZero() }) {
		return fault.New(fault.HostFailed, reasonNoHost, "no host has reported yet; try again later")
	}
	for _, h := range hosts {
		if slices.Contains(h.Templates, name) {
			return fault.New(fault.Exists, "template_exists", "%s is an image that the hosts have; give the template another name", name)
		}
	}
	return nil
}

// Start implements API.
func (s *Service) Start(ctx context.Context, id BuildID, p plan.Plan, in Inputs) error {
	if err := checkPlan(p); err != nil {
		return err
	}
	if err := checkInputs(in); err != nil {
		return err
	}
	// Even if the caller goes away, a build that the store calls Building is carried out.
	ctx = context.WithoutCancel(ctx)
	has := len(in.Secrets) > 0 || len(in.Registries) > 0 || in.Registry != Credentials{}
	j := s.reserve(id, in)
	if j == nil {
		b, err := s.Store.GetBuild(ctx, id)
		if err != nil {
			return err
		}
		return fault.New(fault.WrongState, ReasonBuildState, "build %s has been started already", b.ID)
	}
	_, superseded, err := s.Store.StartBuild(ctx, id, p, s.Server, has)
	if err != nil && !s.startedAnyway(ctx, id, err) {
		s.forget(j)
		return err
	}
	s.interrupt(errSuperseded, superseded...)
	s.enqueue(j, "")
	s.notify()
	return nil
}

// startedAnyway reports whether the store has started a build although it returned err, because
// its answer was lost. If the store does not tell, the maintenance carries on a build that was
// started.
func (s *Service) startedAnyway(ctx context.Context, id BuildID, err error) bool {
	if fault.Is(err, fault.WrongState) || fault.Is(err, fault.NotFound) {
		return false
	}
	owned, err := s.Store.Owned(ctx, s.Server)
	return err == nil && slices.Contains(owned, id)
}

// checkInputs checks the bounds of Inputs.
func checkInputs(in Inputs) error {
	if len(in.Secrets) > maxSecrets || len(in.Registries) > maxSecrets {
		return fault.New(fault.Invalid, "invalid_secret", "a build takes at most %d secrets, and credentials of %d registries", maxSecrets, maxSecrets)
	}
	total := 0
	for id, value := range in.Secrets {
		total += len(value)
		if id == "" || len(id) > 128 || strings.ContainsAny(id, "/\x00") {
			return fault.New(fault.Invalid, "invalid_secret", "%.64q cannot be the id of a secret", id)
		}
	}
	if total > maxSecretBytes {
		return fault.New(fault.Invalid, "invalid_secret", "the secrets of a build have more than %d bytes", maxSecretBytes)
	}
	return nil
}

// BuildDockerfile implements API.
func (s *Service) BuildDockerfile(ctx context.Context, n NewBuild, d Dockerfile, in Inputs) (Template, Build, error) {
	p, err := planOf(d)
	if err == nil {
		err = checkPlan(p)
	}
	if err == nil {
		err = checkInputs(in)
	}
	if err == nil {
		err = s.checkUploads(d)
	}
	if err != nil {
		return Template{}, Build{}, err
	}
	t, b, err := s.Begin(ctx, n)
	if err != nil {
		return Template{}, Build{}, err
	}
	if err := s.Start(ctx, b.ID, p, in); err != nil {
		// Nobody knows its id, so that nobody could start it later.
		_, failErr := s.Store.FailBuild(context.WithoutCancel(ctx), b.ID, 0, Reason{Message: Unstarted})
		return t, b, errors.Join(err, failErr)
	}
	b, err = s.Store.GetBuild(context.WithoutCancel(ctx), b.ID)
	return t, b, err
}

// planOf returns the plan of a Dockerfile.
func planOf(d Dockerfile) (plan.Plan, error) {
	if d.Text == "" {
		return plan.Plan{Stages: []plan.Stage{{From: d.From}}, Start: d.Start, Ready: d.Ready, ImageSettings: true, NoCache: d.NoCache}, nil
	}
	p, err := dockerfile.Parse(d.Text, dockerfile.Options{
		Context: d.Context, Target: d.Target, Args: d.Args, Start: d.Start, Ready: d.Ready, NoCache: d.NoCache,
	})
	if err == nil && d.From != (plan.Base{}) {
		p.Stages[len(p.Stages)-1].From = d.From
	}
	for _, s := range p.Stages {
		for _, step := range s.Steps {
			if step.Run != nil && step.Run.Timeout == 0 {
				step.Run.Timeout = d.StepTimeout
			}
		}
	}
	return p, err
}

// checkUploads checks that the uploads of a Dockerfile are here.
func (s *Service) checkUploads(d Dockerfile) error {
	for _, key := range []string{d.Context, d.From.Archive} {
		if key == "" {
			continue
		}
		f, err := s.blobs.open("", key)
		if err != nil {
			return err
		}
		_ = f.Close()
	}
	return nil
}

// Cancel implements API.
func (s *Service) Cancel(ctx context.Context, id BuildID) error {
	if _, err := s.Store.GetBuild(ctx, id); err != nil {
		return err
	}
	won, err := s.Store.FailBuild(ctx, id, 0, Reason{Message: errCanceled.Error()})
	if err != nil {
		return err
	}
	if won {
		s.interrupt(errCanceled, id)
		s.notify()
	}
	return nil
}

// GetBuild implements API.
func (s *Service) GetBuild(ctx context.Context, id BuildID) (Build, error) {
	return s.Store.GetBuild(ctx, id)
}

// Builds implements API.
func (s *Service) Builds(ctx context.Context, id ID) ([]Build, error) {
	return s.Store.Builds(ctx, id, KeptBuilds)
}

// maxLogPage bounds the entries of an answer.
const maxLogPage = 1000

// Logs implements API.
func (s *Service) Logs(ctx context.Context, id BuildID, seq int64, limit int) ([]LogEntry, error) {
	if limit < 1 || limit > maxLogPage {
		limit = maxLogPage
	}
	if _, err := s.Store.GetBuild(ctx, id); err != nil {
		return nil, err
	}
	return s.Store.Logs(ctx, id, max(seq, 0), limit)
}

// followInterval is how often a follower looks for the changes of another server.
const followInterval = time.Second

// Follow implements API.
func (s *Service) Follow(ctx context.Context, id BuildID, seq int64, sink func(LogEntry, Build) error) (Build, error) {
	var told *Import
	for {
		change, writes := s.change(), s.writesLog(id)
		// The build is read before its log: an ended one writes no more.
		b, err := s.Store.GetBuild(ctx, id)
		if err != nil {
			return Build{}, err
		}
		entries, err := s.Store.Logs(ctx, id, seq, maxLogPage)
		if err != nil {
			return b, err
		}
		if !b.Status.Ended() {
			b.Import = s.importOf(id)
		}
		if b.Import != nil && b.Import != told && len(entries) == 0 {
			entries = []LogEntry{{}}
		}
		told = b.Import
		for _, e := range entries {
			if err := sink(e, b); err != nil {
				return b, err
			}
			seq = max(seq, e.Seq)
		}
		if len(entries) == maxLogPage {
			continue
		}
		if b.Status.Ended() && !writes {
			return b, nil
		}
		if err := wait(ctx, followInterval, change); err != nil {
			return b, err
		}
	}
}

// wait waits for a time or a change.
func wait(ctx context.Context, d time.Duration, change <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
	case <-change:
	}
	return nil
}

// Tags implements API.
func (s *Service) Tags(ctx context.Context, ref string) ([]Tag, error) {
	t, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	return s.Store.Tags(ctx, t.ID)
}

// SetTags implements API.
func (s *Service) SetTags(ctx context.Context, ref string, tags []string) (BuildID, error) {
	for _, tag := range tags {
		if !ValidTag(tag) {
			return "", fault.New(fault.Invalid, "invalid_template", "%.64q cannot be a tag", tag)
		}
	}
	if len(tags) == 0 || len(tags) > MaxBuildTags {
		return "", fault.New(fault.Invalid, "invalid_template", "give 1 to %d tags", MaxBuildTags)
	}
	t, b, err := s.Resolve(ctx, ref)
	if err != nil {
		return "", err
	}
	return b.ID, s.Store.SetTags(ctx, t.ID, b.ID, tags)
}

// RemoveTags implements API.
func (s *Service) RemoveTags(ctx context.Context, name string, tags []string) error {
	if slices.Contains(tags, DefaultTag) {
		return fault.New(fault.Invalid, "invalid_template", "the tag %q cannot be removed; delete the template", DefaultTag)
	}
	if len(tags) > MaxBuildTags {
		return fault.New(fault.Invalid, "invalid_template", "give 1 to %d tags", MaxBuildTags)
	}
	t, err := s.Get(ctx, name)
	if err != nil {
		return err
	}
	return s.Store.RemoveTags(ctx, t.ID, tags)
}

// HasBlob implements API.
func (s *Service) HasBlob(_ context.Context, key BlobKey) (bool, error) { return s.blobs.has(key) }

// PutBlob implements API.
func (s *Service) PutBlob(ctx context.Context, key BlobKey, content io.Reader) error {
	return s.blobs.put(ctx, key, content)
}
