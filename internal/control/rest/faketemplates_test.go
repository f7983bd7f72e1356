package rest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// fakeTemplates is templates.API in memory: a build is Building until end is called, and
// its log has the lines of its Dockerfile.
type fakeTemplates struct {
	mu        sync.Mutex // protects the following
	templates []templates.Template
	builds    []templates.Build
	logs      map[templates.BuildID][]templates.LogEntry
	blobs     map[templates.BlobKey][]byte
	changed   chan struct{} // closed by every change

	// requests are the builds that were asked for.
	requests []buildRequest
	// buildErr fails BuildDockerfile.
	buildErr error
}

func newFakeTemplates() *fakeTemplates {
	return &fakeTemplates{
		logs: map[templates.BuildID][]templates.LogEntry{}, blobs: map[templates.BlobKey][]byte{}, changed: make(chan struct{}),
	}
}

// change runs f, and wakes those that follow builds.
func (f *fakeTemplates) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.changed)
	f.changed = make(chan struct{})
}

// snapshot is everything a request can have changed.
func (f *fakeTemplates) snapshot() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("%+v %+v %+v %v", f.templates, f.builds, f.logs, slices.Collect(maps.Keys(f.blobs)))
}

func (f *fakeTemplates) List(_ context.Context, limit int, cursor string) ([]templates.Template, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := slices.SortedFunc(slices.Values(f.templates), func(a, b templates.Template) int { return strings.Compare(a.Name, b.Name) })
	list = slices.DeleteFunc(list, func(t templates.Template) bool { return t.Name <= cursor })
	if limit > 0 && len(list) > limit {
		return list[:limit], list[limit-1].Name, nil
	}
	return list, "", nil
}

func (f *fakeTemplates) find(ref string) *templates.Template {
	name, _, _ := strings.Cut(ref, ":")
	for i := range f.templates {
		if t := &f.templates[i]; t.Name == name || string(t.ID) == name {
			return t
		}
	}
	return nil
}

func (f *fakeTemplates) Get(_ context.Context, ref string) (templates.Template, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.find(ref)
	if t == nil {
		return templates.Template{}, templateNotFound(ref)
	}
	return *t, nil
}

func (f *fakeTemplates) Resolve(context.Context, string) (templates.Template, templates.Build, error) {
	return templates.Template{}, templates.Build{}, fault.New(fault.Internal, "internal", "no part of the tests")
}

func (f *fakeTemplates) Delete(_ context.Context, ref string) (err error) {
	f.change(func() {
		t := f.find(ref)
		if t == nil {
			err = templateNotFound(ref)
			return
		}
		id := t.ID
		f.templates = slices.DeleteFunc(f.templates, func(t templates.Template) bool { return t.ID == id })
		f.builds = slices.DeleteFunc(f.builds, func(b templates.Build) bool { return b.Template == id })
	})
	return err
}

func (f *fakeTemplates) SetPublic(ctx context.Context, ref string, _ bool) (templates.Template, error) {
	return f.Get(ctx, ref)
}

func (f *fakeTemplates) Begin(context.Context, templates.NewBuild) (templates.Template, templates.Build, error) {
	return templates.Template{}, templates.Build{}, fault.New(fault.Internal, "internal", "no part of the tests")
}

func (f *fakeTemplates) Start(context.Context, templates.BuildID, plan.Plan, templates.Inputs) error {
	return fault.New(fault.Internal, "internal", "no part of the tests")
}

func (f *fakeTemplates) BuildDockerfile(_ context.Context, n templates.NewBuild, d templates.Dockerfile, in templates.Inputs) (out templates.Template, b templates.Build, err error) {
	f.change(func() {
		f.requests = append(f.requests, buildRequest{n, d, in})
		if f.buildErr != nil {
			err = f.buildErr
			return
		}
		if d.Context != "" && f.blobs[templates.BlobKey{Key: d.Context, Digest: d.Context}] == nil {
			err = fault.New(fault.NotFound, "upload_not_found", "there is no upload %s", d.Context)
			return
		}
		now := time.Now()
		t := f.find(n.Name)
		if t == nil {
			f.templates = append(f.templates, templates.Template{ID: templates.ID(sandbox.NewID()), Name: n.Name, CreatedAt: now})
			t = &f.templates[len(f.templates)-1]
		}
		lines := strings.Split(strings.TrimSpace(d.Text), "\n")
		b = templates.Build{
			ID: templates.BuildID(fmt.Sprintf("00000000-0000-4000-8000-%012d", len(f.builds)+1)), Template: t.ID,
			Status: templates.Building, Tags: n.Tags, VCPUs: n.VCPUs, MemoryMB: n.MemoryMB, DiskMB: n.DiskMB, Runtime: n.Runtime,
			Step: 1, Steps: len(lines), CreatedAt: now, UpdatedAt: now, StartedAt: &now,
		}
		t.Latest, t.Status, t.Builds, t.UpdatedAt, out = b.ID, b.Status, t.Builds+1, now, *t
		f.builds = append(f.builds, b)
		for i, line := range lines {
			f.logs[b.ID] = append(f.logs[b.ID], templates.LogEntry{Seq: int64(i + 1), At: now, Level: "info", Step: fmt.Sprint(i + 1), Message: line})
		}
		out = *t
	})
	return out, b, err
}

// end ends the build that is called id.
func (f *fakeTemplates) end(id templates.BuildID, status templates.BuildStatus, reason *templates.Reason) {
	f.change(func() {
		for i := range f.builds {
			if b := &f.builds[i]; b.ID == id && !b.Status.Ended() {
				now := time.Now()
				b.Status, b.Reason, b.FinishedAt, b.Step = status, reason, &now, b.Steps
				t := f.find(string(b.Template))
				t.Status = status
				if status == templates.Ready {
					t.Tags = append(t.Tags, templates.Tag{Name: templates.DefaultTag, Build: id, CreatedAt: now})
				}
			}
		}
	})
}

func (f *fakeTemplates) Cancel(_ context.Context, id templates.BuildID) error {
	f.end(id, templates.Failed, &templates.Reason{Message: "the build was cancelled"})
	return nil
}

func (f *fakeTemplates) GetBuild(_ context.Context, id templates.BuildID) (templates.Build, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.builds {
		if b.ID == id {
			return b, nil
		}
	}
	return templates.Build{}, fault.New(fault.NotFound, "build_not_found", "there is no build %s", id)
}

func (f *fakeTemplates) Builds(_ context.Context, id templates.ID) (out []templates.Build, _ error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range slices.Backward(f.builds) {
		if b.Template == id {
			out = append(out, b)
		}
	}
	return out, nil
}

func (f *fakeTemplates) Logs(_ context.Context, id templates.BuildID, seq int64, limit int) ([]templates.LogEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(f.logs[id]), func(e templates.LogEntry) bool { return e.Seq <= seq })
	return list[:min(len(list), limit)], nil
}

func (f *fakeTemplates) Follow(ctx context.Context, id templates.BuildID, seq int64, sink func(templates.LogEntry, templates.Build) error) (templates.Build, error) {
	for {
		f.mu.Lock()
		changed := f.changed
		f.mu.Unlock()
		b, err := f.GetBuild(ctx, id)
		if err != nil {
			return b, err
		}
		list, _ := f.Logs(ctx, id, seq, 1000)
		for _, e := range list {
			seq = e.Seq
			if err := sink(e, b); err != nil {
				return b, err
			}
		}
		if b.Status.Ended() {
			return b, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return b, ctx.Err()
		}
	}
}

func (f *fakeTemplates) Tags(ctx context.Context, ref string) ([]templates.Tag, error) {
	t, err := f.Get(ctx, ref)
	return t.Tags, err
}

func (f *fakeTemplates) SetTags(_ context.Context, ref string, tags []string) (build templates.BuildID, err error) {
	f.change(func() {
		t := f.find(ref)
		_, of, _ := strings.Cut(ref, ":")
		build = templates.BuildID(of)
		if at := slices.IndexFunc(t.Tags, func(have templates.Tag) bool { return have.Name == of }); at >= 0 {
			build = t.Tags[at].Build
		} else if !buildID.MatchString(of) {
			err = tagNotFound()
			return
		}
		for _, tag := range tags {
			t.Tags = slices.DeleteFunc(t.Tags, func(have templates.Tag) bool { return have.Name == tag })
			t.Tags = append(t.Tags, templates.Tag{Name: tag, Build: build, CreatedAt: time.Now()})
		}
	})
	return build, err
}

func (f *fakeTemplates) RemoveTags(_ context.Context, name string, tags []string) (err error) {
	f.change(func() {
		t := f.find(name)
		before := len(t.Tags)
		t.Tags = slices.DeleteFunc(slices.Clone(t.Tags), func(have templates.Tag) bool { return slices.Contains(tags, have.Name) })
		if len(t.Tags) == before {
			err = tagNotFound()
		}
	})
	return err
}

func (f *fakeTemplates) HasBlob(_ context.Context, key templates.BlobKey) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, here := f.blobs[key]
	return here, nil
}

func (f *fakeTemplates) PutBlob(_ context.Context, key templates.BlobKey, content io.Reader) error {
	data, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != key.Digest {
		return fault.New(fault.Invalid, "upload_digest", "the content has another digest")
	}
	f.change(func() { f.blobs[key] = data })
	return nil
}
