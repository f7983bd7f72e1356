package cli_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/client"
)

// fakeTemplates are the templates of a fake. A build ends at once: it fails if its text has
// RUN false, and its log has the lines of its text.
type fakeTemplates struct {
	built   []*client.Template
	builds  []*client.TemplateBuild
	texts   map[string]client.BuildRequest // by id of the build
	uploads map[string][]byte
}

func (f *fake) templateRoutes(mux *http.ServeMux) {
	f.templates = fakeTemplates{texts: map[string]client.BuildRequest{}, uploads: map[string][]byte{}}
	mux.HandleFunc("GET /v1/templates", f.listTemplates)
	mux.HandleFunc("GET /v1/templates/{name}", f.withTemplate(f.getTemplate))
	mux.HandleFunc("DELETE /v1/templates/{name}", f.withTemplate(f.deleteTemplate))
	mux.HandleFunc("POST /v1/templates/{name}/builds", f.buildTemplate)
	mux.HandleFunc("GET /v1/templates/{name}/builds/{build}", f.withBuild(func(w http.ResponseWriter, _ *http.Request, b *client.TemplateBuild) { answer(w, 200, b) }))
	mux.HandleFunc("DELETE /v1/templates/{name}/builds/{build}", f.withBuild(f.cancelBuild))
	mux.HandleFunc("GET /v1/templates/{name}/builds/{build}/logs", f.withBuild(f.buildLogs))
	mux.HandleFunc("GET /v1/templates/{name}/tags/{tag}", f.withTemplate(f.tag))
	mux.HandleFunc("PUT /v1/templates/{name}/tags/{tag}", f.withTemplate(f.tag))
	mux.HandleFunc("DELETE /v1/templates/{name}/tags/{tag}", f.withTemplate(f.tag))
	mux.HandleFunc("GET /v1/templates/uploads/{digest}", f.upload)
	mux.HandleFunc("PUT /v1/templates/uploads/{digest}", f.upload)
}

func (f *fake) listTemplates(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := []*client.Template{{Name: "minimal", BuiltIn: true, Tags: []client.TemplateTag{}}}
	answer(w, 200, append(out, f.templates.built...))
}

func (f *fake) withTemplate(h func(http.ResponseWriter, *http.Request, *client.Template)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, t := range f.templates.built {
			if t.Name == r.PathValue("name") {
				h(w, r, t)
				return
			}
		}
		if r.PathValue("name") == "minimal" {
			h(w, r, &client.Template{Name: "minimal", BuiltIn: true, Tags: []client.TemplateTag{}})
			return
		}
		refuse(w, 404, "template_not_found", "there is no template "+r.PathValue("name"))
	}
}

func (f *fake) getTemplate(w http.ResponseWriter, _ *http.Request, t *client.Template) {
	builds := []client.TemplateBuild{}
	for _, b := range slices.Backward(f.templates.builds) {
		if t.ID != nil && b.TemplateID == *t.ID {
			builds = append(builds, *b)
		}
	}
	out := *t
	out.Builds = &builds
	answer(w, 200, out)
}

func (f *fake) deleteTemplate(w http.ResponseWriter, _ *http.Request, t *client.Template) {
	if t.BuiltIn {
		refuse(w, 409, "template_built_in", t.Name+" is an image of the hosts")
		return
	}
	f.templates.built = slices.DeleteFunc(f.templates.built, func(have *client.Template) bool { return have == t })
	w.WriteHeader(204)
}

func (f *fake) buildTemplate(w http.ResponseWriter, r *http.Request) {
	var in client.BuildRequest
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		refuse(w, 400, "invalid_json", err.Error())
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if strings.Contains(in.Dockerfile, "FORM") {
		refuse(w, 400, "invalid_dockerfile", "Dockerfile:1: unknown instruction: FORM")
		return
	}
	now := time.Now()
	at := slices.IndexFunc(f.templates.built, func(t *client.Template) bool { return t.Name == r.PathValue("name") })
	if at < 0 {
		at = len(f.templates.built)
		f.templates.built = append(f.templates.built, &client.Template{
			Name: r.PathValue("name"), ID: ptr(fmt.Sprintf("template%d", at+1)), Tags: []client.TemplateTag{}, CreatedAt: &now,
			VCPUs: ptr(2), MemoryMB: ptr(1024), DiskMB: ptr(2048),
		})
	}
	t := f.templates.built[at]
	b := &client.TemplateBuild{
		ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", len(f.templates.builds)+1), TemplateID: *t.ID, Status: client.BuildReady,
		Tags: in.Tags, CreatedAt: now, Steps: strings.Count(in.Dockerfile, "\n"), Step: strings.Count(in.Dockerfile, "\n"),
	}
	if len(b.Tags) == 0 {
		b.Tags = []string{"default"}
	}
	if strings.Contains(in.Dockerfile, "RUN false") {
		b.Status, b.Reason = client.BuildFailed, &types.TemplateBuildReason{Message: "RUN false: exit status 1", Step: "2"}
	}
	f.templates.builds, f.templates.texts[b.ID] = append(f.templates.builds, b), in
	t.Status, t.LatestBuildID = &b.Status, &b.ID
	t.BuildCount++
	if b.Status == client.BuildReady {
		for _, tag := range b.Tags {
			setTag(t, tag, b.ID)
		}
	}
	answer(w, 202, b)
}

// contextNames lists the entries of a packed context.
func contextNames(packed []byte) (names []string) {
	z, err := zstd.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil
	}
	defer z.Close()
	for entries := tar.NewReader(z); ; {
		h, err := entries.Next()
		if err != nil {
			return names
		}
		names = append(names, fmt.Sprintf("%s %04o", h.Name, h.Mode))
	}
}

func setTag(t *client.Template, tag, build string) client.TemplateTag {
	t.Tags = slices.DeleteFunc(t.Tags, func(have client.TemplateTag) bool { return have.Name == tag })
	t.Tags = append(t.Tags, client.TemplateTag{Name: tag, BuildID: build})
	return t.Tags[len(t.Tags)-1]
}

func (f *fake) withBuild(h func(http.ResponseWriter, *http.Request, *client.TemplateBuild)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, b := range f.templates.builds {
			if b.ID == r.PathValue("build") {
				h(w, r, b)
				return
			}
		}
		refuse(w, 404, "build_not_found", "there is no build "+r.PathValue("build"))
	}
}

func (f *fake) cancelBuild(w http.ResponseWriter, _ *http.Request, b *client.TemplateBuild) {
	if client.BuildEnded(b.Status) {
		refuse(w, 409, "build_ended", "the build has ended already: it is "+b.Status)
		return
	}
	w.WriteHeader(204)
}

// buildLogs shows the request as a log, so that scripts can look at it.
func (f *fake) buildLogs(w http.ResponseWriter, r *http.Request, b *client.TemplateBuild) {
	in := f.templates.texts[b.ID]
	text := in.Dockerfile
	in.Dockerfile = ""
	raw, _ := json.Marshal(in)
	lines := append([]string{"request " + string(raw)}, strings.Split(strings.TrimSpace(text), "\n")...)
	for _, name := range contextNames(f.templates.uploads[in.Context]) {
		lines = append(lines, "context "+name)
	}
	var out []client.TemplateBuildLog
	for i, text := range lines {
		step := ""
		if i > 0 {
			step = fmt.Sprint(i)
		}
		out = append(out, client.TemplateBuildLog{Seq: int64(i + 1), Level: "info", Step: step, Message: text})
	}
	if r.Header.Get("Accept") != "text/event-stream" {
		answer(w, 200, out)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(name string, v any) {
		data, _ := json.Marshal(v)
		fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, data)
	}
	for i, e := range out {
		send("progress", client.TemplateBuildProgress{Stage: "building", Done: i + 1, Total: len(out)})
		send("log", e)
	}
	send("result", b)
}

func (f *fake) tag(w http.ResponseWriter, r *http.Request, t *client.Template) {
	name := r.PathValue("tag")
	find := func(name string) int {
		return slices.IndexFunc(t.Tags, func(tag client.TemplateTag) bool { return tag.Name == name })
	}
	var in client.TagTarget
	if r.Method == http.MethodPut {
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			refuse(w, 400, "invalid_json", err.Error())
			return
		}
		build := in.BuildID
		if at := find(in.FromTag); at >= 0 {
			build = t.Tags[at].BuildID
		}
		if build != "" {
			answer(w, 200, setTag(t, name, build))
			return
		}
		name = in.FromTag
	}
	at := find(name)
	switch {
	case at < 0:
		refuse(w, 404, "tag_not_found", "the template has no tag "+name)
	case r.Method == http.MethodDelete:
		t.Tags = slices.Delete(t.Tags, at, at+1)
		w.WriteHeader(204)
	default:
		answer(w, 200, t.Tags[at])
	}
}

func (f *fake) upload(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	digest := r.PathValue("digest")
	if r.Method == http.MethodGet {
		if f.templates.uploads[digest] == nil {
			refuse(w, 404, "upload_not_found", "there is no upload")
			return
		}
		answer(w, 200, map[string]string{"digest": digest})
		return
	}
	data, err := io.ReadAll(r.Body)
	if sum := sha256.Sum256(data); err != nil || hex.EncodeToString(sum[:]) != digest {
		refuse(w, 400, "invalid_digest", "the content has another digest")
		return
	}
	f.templates.uploads[digest] = data
	answer(w, 201, map[string]string{"digest": digest})
}
