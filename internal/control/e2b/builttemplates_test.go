package e2b

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func TestBuiltTemplates(t *testing.T) {
	f := newBench()
	app := f.made(t, "app:v1")
	second := f.made(t, "app")
	for _, ref := range []string{"app", "team%2Fapp", "app:default", "app:v1", "app:" + app.BuildID, app.TemplateID, "APP"} {
		got := read[map[string]any](t, f, "GET", "/templates/aliases/"+ref, "", 200)
		if got["templateID"] != app.TemplateID || got["public"] != false {
			t.Errorf("the alias %s: %v", ref, got)
		}
	}
	f.call(t, "GET", "/templates/aliases/app:v2", "", 404)
	f.call(t, "GET", "/templates/aliases/apps", "", 404)
	whole := read[struct {
		templateJSON
		Builds []buildJSON
	}](t, f, "GET", "/templates/app", "", 200)
	if whole.BuildID != second.BuildID || whole.BuildCount != 2 || whole.BuildStatus != "ready" || whole.CPUCount != 2 || whole.MemoryMB != 1024 {
		t.Errorf("the template is %+v", whole.templateJSON)
	}
	if len(whole.Builds) != 2 || whole.Builds[0].BuildID != second.BuildID || whole.Builds[1].BuildID != app.BuildID {
		t.Errorf("its builds are %+v, want both, the newest first", whole.Builds)
	}
	for i, path := range []string{"/templates/", "/v2/templates/"} {
		got := read[map[string][]string](t, f, "PATCH", path+"app", fmt.Sprintf(`{"public":%t}`, i == 0), 200)
		if !slices.Equal(got["names"], []string{"app"}) || f.public["builtbuiltbuiltbuil0"] != (i == 0) {
			t.Errorf("PATCH %s: %v, public: %v", path, got, f.public)
		}
	}
	f.call(t, "PATCH", "/v2/templates/base", `{"public":true}`, 200) // nothing changes
	f.call(t, "PATCH", "/v2/templates/base", `{"public":false}`, 400)
	f.call(t, "DELETE", "/templates/app:v1", "", 400)
	f.call(t, "DELETE", "/templates/base", "", 400)
	f.call(t, "DELETE", "/templates/"+url.PathEscape("team/app:default"), "", 204)
	f.call(t, "DELETE", "/templates/app", "", 404)
	if len(f.all) != 0 || len(f.builds) != 0 {
		t.Errorf("after the delete there are %v and %v", f.all, f.builds)
	}
}

func TestTags(t *testing.T) {
	f := newBench()
	f.begin(t, "unbuilt")
	app := f.made(t, "app")
	f.call(t, "GET", "/templates/never/tags", "", 404)
	if got := f.call(t, "GET", "/templates/unbuilt/tags", "", 200).Body.String(); strings.TrimSpace(got) != "[]" {
		t.Errorf("the tags of a template without a finished build: %s, want []", got)
	}
	got := read[map[string]any](t, f, "POST", "/templates/tags", `{"target":"team/app:default","tags":["v1","stable"]}`, 201)
	if got["buildID"] != app.BuildID || fmt.Sprint(got["tags"]) != "[v1 stable]" {
		t.Errorf("the answer to tags: %v", got)
	}
	names := func() (out []string) {
		for _, tag := range read[[]tagJSON](t, f, "GET", "/templates/team%2Fapp/tags", "", 200) {
			out = append(out, tag.Tag)
		}
		return out
	}
	if !slices.Equal(names(), []string{"default", "v1", "stable"}) {
		t.Errorf("the tags are %v, want default, v1 and stable", names())
	}
	if n := read[map[string]int](t, f, "GET", "/templates/app/tags/count", "", 200)["total"]; n != 3 {
		t.Errorf("%d tags are counted, want 3", n)
	}
	for tag, want := range map[string]bool{"v1": true, "v2": false} {
		if got := read[map[string]any](t, f, "GET", "/templates/app/tags/exists?tag="+tag, "", 200); got["exists"] != want || got["normalizedTag"] != tag {
			t.Errorf("the tag %s: %v, want exists %t", tag, got, want)
		}
	}
	f.call(t, "DELETE", "/templates/tags", `{"name":"app","tags":["v1"]}`, 204)
	if !slices.Equal(names(), []string{"default", "stable"}) {
		t.Errorf("the tags are %v, want default and stable", names())
	}
	for body, status := range map[string]int{
		`{"name":"app","tags":["default"]}`: 400, `{"name":"app","tags":["v1"]}`: 404, `{"name":"none","tags":["v1"]}`: 404,
		`{"name":"app","tags":[]}`: 400, `{"name":"base","tags":["v1"]}`: 400, `{}`: 400,
	} {
		f.call(t, "DELETE", "/templates/tags", body, status)
	}
	for body, status := range map[string]int{
		`{"target":"app:none","tags":["x"]}`: 404, `{"target":"none","tags":["x"]}`: 404, `{"target":"base","tags":["x"]}`: 400,
		`{"target":"app","tags":["X Y"]}`: 400, `{"target":"app"}`: 400, `{"target":"unbuilt","tags":["x"]}`: 404,
	} {
		f.call(t, "POST", "/templates/tags", body, status)
	}
}

// TestTemplatePages: pages of every size hold each template once.
func TestTemplatePages(t *testing.T) {
	f := newBench()
	for _, name := range []string{"a", "b", "c"} {
		f.made(t, name)
	}
	want := []string{"base", "a", "b", "c", "py"}
	for limit := 1; limit <= 6; limit++ {
		var got []string
		token, pages := "", 0
		for ; pages < 10; pages++ {
			w := f.call(t, "GET", fmt.Sprintf("/v2/templates?limit=%d&nextToken=%s", limit, token), "", 200)
			page := read[[]templateJSON](t, f, "GET", fmt.Sprintf("/v2/templates?limit=%d&nextToken=%s", limit, token), "", 200)
			if len(page) > limit {
				t.Errorf("a page of %d has %d entries", limit, len(page))
			}
			for _, out := range page {
				got = append(got, out.Names[0])
			}
			if token = w.Header().Get(headerNext); token == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: %v, want %v", limit, got, want)
		}
	}
	for _, wrong := range []string{"!", "OSA", "LTEg", "MA"} {
		f.call(t, "GET", "/v2/templates?nextToken="+wrong, "", 400)
	}
	if all := read[[]templateJSON](t, f, "GET", "/templates?teamID=x", "", 200); len(all) != len(want) {
		t.Errorf("the list without pages has %d templates, want %d", len(all), len(want))
	}
	if own := read[[]templateJSON](t, f, "GET", "/default-templates", "", 200); len(own) != 1 || own[0].TemplateID != "base" {
		t.Errorf("the templates of the installation: %+v, want base", own)
	}
}

// TestNamesOfStarts: the template that a sandbox shows, by the start that it was made from.
func TestNamesOfStarts(t *testing.T) {
	for name, c := range map[string]struct {
		row      control.Sandbox
		id, name string
	}{
		"an image":            {control.Sandbox{Spec: sandbox.Spec{Template: "minimal"}}, "base", "base"},
		"a snapshot":          {control.Sandbox{SnapshotID: "snap", Spec: sandbox.Spec{Template: "minimal"}}, "snap", "base"},
		"a template":          {control.Sandbox{SnapshotID: "inner", Spec: sandbox.Spec{Template: "minimal", TemplateID: "tid", TemplateRef: "app"}}, "tid", "app"},
		"a tag of a template": {control.Sandbox{SnapshotID: "inner", Spec: sandbox.Spec{Template: "minimal", TemplateID: "tid", TemplateRef: "app:v1"}}, "tid", "app"},
	} {
		if id, short := templateIDOf(c.row), templateNameOf(c.row); id != c.id || short != c.name {
			t.Errorf("%s: the id %q and the name %q, want %q and %q", name, id, short, c.id, c.name)
		}
		for _, filter := range []string{c.id, c.name} {
			q := listQuery{states: []string{stateRunning}, template: filter}
			if c.row.State = sandbox.Running; !q.selects(c.row) {
				t.Errorf("%s: the filter by template %q does not select it", name, filter)
			}
		}
	}
}

// TestCreateFromBuilt: the references to builds, as the control plane gets them.
func TestCreateFromBuilt(t *testing.T) {
	f := newBench()
	app := f.made(t, "app:v1")
	for ref, want := range map[string]string{
		"app:v1":               "app:v1",
		"team/app:v1":          "app:v1",
		"team/app":             "app",
		"app:" + app.BuildID:   "app:" + app.BuildID,
		app.TemplateID:         "app",
		app.TemplateID + ":v1": "app:v1",
		"app:v2":               "",
	} {
		f.store.from = nil
		s := &server{Config: Config{Sandboxes: f.store, Templates: f.builder, Log: quiet()}}
		_, err := s.createFrom(t.Context(), ref, control.NewSandbox{})
		if got := strings.Join(f.store.from, " "); got != want {
			t.Errorf("%q: created from %q (%v), want %q", ref, got, err, want)
		}
	}
}
