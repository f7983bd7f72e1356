package e2b

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// builder keeps templates in memory. A build has the end that finish gives it.
type builder struct {
	templates.API
	all    []templates.Template
	builds []templates.Build
	logs   map[templates.BuildID][]templates.LogEntry
	blobs  map[templates.BlobKey]string
	plans  map[templates.BuildID]plan.Plan
	inputs []templates.Inputs
	public map[templates.ID]bool
}

var errNone = fault.New(fault.NotFound, "template_not_found", "there is no such template")

func (f *builder) Begin(_ context.Context, n templates.NewBuild) (templates.Template, templates.Build, error) {
	ref, err := templates.ParseReference(n.Name)
	if err != nil {
		return templates.Template{}, templates.Build{}, err
	}
	if len(f.builds) == 9 {
		return templates.Template{}, templates.Build{}, fault.New(fault.Quota, "build_quota", "too many builds")
	}
	t, err := f.Get(context.Background(), ref.Name)
	if err != nil {
		t = templates.Template{ID: templates.ID(fmt.Sprintf("builtbuiltbuiltbuil%d", len(f.all))), Name: ref.Name, CreatedAt: time.Now()}
		f.all = append(f.all, t)
	}
	tags := append([]string{}, n.Tags...)
	if strings.Contains(n.Name, ":") || len(tags) == 0 {
		tags = append(tags, ref.Tag)
	}
	b := templates.Build{
		ID: templates.BuildID(fmt.Sprintf("00000000-0000-4000-8000-00000000000%d", len(f.builds))), Template: t.ID,
		Status: templates.Waiting, Tags: tags, VCPUs: cmp.Or(n.VCPUs, 2), MemoryMB: cmp.Or(n.MemoryMB, 1024),
		DiskMB: cmp.Or(n.DiskMB, sandbox.DefaultDiskMB), CreatedAt: time.Now(),
	}
	f.builds = append(f.builds, b)
	t, err = f.Get(context.Background(), ref.Name)
	return t, b, err
}

func (f *builder) Get(_ context.Context, ref string) (templates.Template, error) {
	name, _, _ := strings.Cut(ref, ":")
	for _, t := range f.all {
		if t.Name != name && string(t.ID) != name {
			continue
		}
		for _, b := range f.builds {
			if b.Template == t.ID {
				t.Latest, t.Status, t.VCPUs, t.MemoryMB, t.DiskMB = b.ID, b.Status, b.VCPUs, b.MemoryMB, b.DiskMB
				t.Builds++
			}
		}
		t.Public = f.public[t.ID]
		return t, nil
	}
	return templates.Template{}, errNone
}

func (f *builder) List(_ context.Context, limit int, cursor string) ([]templates.Template, string, error) {
	var out []templates.Template
	for _, t := range f.all {
		if t.Name > cursor {
			if len(out) == limit {
				return out, out[limit-1].Name, nil
			}
			full, _ := f.Get(context.Background(), t.Name)
			out = append(out, full)
		}
	}
	return out, "", nil
}

func (f *builder) Resolve(ctx context.Context, ref string) (templates.Template, templates.Build, error) {
	name, tag, found := strings.Cut(ref, ":")
	if !found {
		tag = templates.DefaultTag
	}
	t, err := f.Get(ctx, name)
	if err != nil {
		return t, templates.Build{}, err
	}
	for _, b := range slices.Backward(f.builds) {
		if b.Template == t.ID && b.Status == templates.Ready && (string(b.ID) == tag || slices.Contains(b.Tags, tag)) {
			return t, b, nil
		}
	}
	return t, templates.Build{}, errNone
}

func (f *builder) Delete(ctx context.Context, ref string) error {
	t, err := f.Get(ctx, ref)
	f.all = slices.DeleteFunc(f.all, func(o templates.Template) bool { return o.ID == t.ID })
	f.builds = slices.DeleteFunc(f.builds, func(b templates.Build) bool { return b.Template == t.ID })
	return err
}

func (f *builder) SetPublic(ctx context.Context, ref string, public bool) (templates.Template, error) {
	t, err := f.Get(ctx, ref)
	f.public[t.ID] = public
	return t, err
}

func (f *builder) find(id templates.BuildID) *templates.Build {
	for i := range f.builds {
		if f.builds[i].ID == id {
			return &f.builds[i]
		}
	}
	return nil
}

func (f *builder) Start(_ context.Context, id templates.BuildID, p plan.Plan, in templates.Inputs) error {
	b := f.find(id)
	if b.Status != templates.Waiting {
		return fault.New(fault.WrongState, "build_started", "the build has been started")
	}
	b.Status, f.plans[id] = templates.Building, p
	f.inputs = append(f.inputs, in)
	return nil
}

func (f *builder) GetBuild(_ context.Context, id templates.BuildID) (templates.Build, error) {
	if b := f.find(id); b != nil {
		return *b, nil
	}
	return templates.Build{}, fault.New(fault.NotFound, "build_not_found", "there is no such build")
}

func (f *builder) Builds(_ context.Context, id templates.ID) (out []templates.Build, _ error) {
	for _, b := range slices.Backward(f.builds) {
		if b.Template == id {
			out = append(out, b)
		}
	}
	return out, nil
}

func (f *builder) Logs(_ context.Context, id templates.BuildID, seq int64, limit int) (out []templates.LogEntry, _ error) {
	for _, e := range f.logs[id] {
		if e.Seq > seq && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, nil
}

func (f *builder) Tags(ctx context.Context, ref string) (out []templates.Tag, _ error) {
	t, err := f.Get(ctx, ref)
	for _, b := range f.builds {
		for _, tag := range b.Tags {
			if b.Template == t.ID && b.Status == templates.Ready {
				out = append(out, templates.Tag{Name: tag, Build: b.ID})
			}
		}
	}
	return out, err
}

func (f *builder) SetTags(ctx context.Context, ref string, tags []string) (templates.BuildID, error) {
	_, b, err := f.Resolve(ctx, ref)
	if err == nil {
		f.find(b.ID).Tags = append(b.Tags, tags...)
	}
	return b.ID, err
}

func (f *builder) RemoveTags(_ context.Context, _ string, tags []string) error {
	for _, tag := range tags {
		if tag == templates.DefaultTag {
			return fault.New(fault.Invalid, "default_tag", "the default tag stays")
		}
		for i := range f.builds {
			if at := slices.Index(f.builds[i].Tags, tag); at >= 0 {
				f.builds[i].Tags = slices.Delete(f.builds[i].Tags, at, at+1)
				return nil
			}
		}
	}
	return fault.New(fault.NotFound, "tag_not_found", "there is no such tag")
}

func (f *builder) HasBlob(_ context.Context, key templates.BlobKey) (bool, error) {
	_, ok := f.blobs[key]
	return ok, nil
}

func (f *builder) PutBlob(_ context.Context, key templates.BlobKey, content io.Reader) error {
	text, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	f.blobs[key] = string(text)
	return nil
}

// finish ends a build.
func (f *builder) finish(id string, reason *templates.Reason) {
	b := f.find(templates.BuildID(id))
	if b.Status, b.Reason = templates.Ready, reason; reason != nil {
		b.Status = templates.Failed
	}
}

// say adds an entry to the log of a build.
func (f *builder) say(id, level, step, message string) {
	key := templates.BuildID(id)
	n := int64(len(f.logs[key]))
	f.logs[key] = append(f.logs[key], templates.LogEntry{
		Seq: n + 1, At: time.UnixMilli(1_800_000_000_000 + n*1000), Level: level, Step: step, Message: message,
	})
}

// bench is a handler over a builder and the control plane of store.
type bench struct {
	*builder
	store *store
	http.Handler
	// agent is the User-Agent of requests.
	agent string
}

type constantSecret struct{}

func (constantSecret) SigningSecret(context.Context) ([]byte, error) {
	return []byte("0123456789abcdef0123456789abcdef"), nil
}

func newBench() *bench {
	f := &bench{store: &store{}, builder: &builder{
		logs: map[templates.BuildID][]templates.LogEntry{}, blobs: map[templates.BlobKey]string{},
		plans: map[templates.BuildID]plan.Plan{}, public: map[templates.ID]bool{},
	}}
	f.Handler = New(Config{
		Sandboxes: f.store, Templates: f.builder, Secrets: constantSecret{}, MaxUploadBytes: 100,
		Next: http.NotFoundHandler(), Log: quiet(), Enter: keyed,
	})
	return f
}

// keyed admits requests with a key.
func keyed(r *http.Request) (context.Context, error) {
	if r.Header.Get("X-Api-Key") == "" {
		return r.Context(), fault.New(fault.Unauthenticated, "missing_api_key", "no key")
	}
	return r.Context(), nil
}

// call sends a request with a key, and checks the status of the answer.
func (f *bench) call(t *testing.T, method, path, body string, status int) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("X-Api-Key", "key")
	r.Header.Set("User-Agent", f.agent)
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	if w.Code != status {
		t.Errorf("%s %s %s: status %d %s, want %d", method, path, body, w.Code, w.Body, status)
	}
	return w
}

// read is call whose answer is JSON.
func read[T any](t *testing.T, f *bench, method, path, body string, status int) (out T) {
	t.Helper()
	w := f.call(t, method, path, body, status)
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Errorf("%s %s: the answer %s: %v", method, path, w.Body, err)
	}
	return out
}

// begin begins a build of the template name.
func (f *bench) begin(t *testing.T, name string) begunJSON {
	t.Helper()
	return read[begunJSON](t, f, "POST", "/v3/templates", fmt.Sprintf(`{"name":%q}`, name), 202)
}

// made makes a template with a ready build.
func (f *bench) made(t *testing.T, name string) begunJSON {
	t.Helper()
	b := f.begin(t, name)
	f.finish(b.BuildID, nil)
	return b
}
