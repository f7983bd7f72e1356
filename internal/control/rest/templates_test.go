package rest

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// newTemplateWorld is newWorld with templates.
func newTemplateWorld(t *testing.T, change ...func(*Config)) (*world, *fakeTemplates) {
	t.Helper()
	f := newFakeTemplates()
	return newWorld(t, append(change, func(c *Config) { c.Templates = f })...), f
}

func TestLifeOfATemplate(t *testing.T) {
	w, f := newTemplateWorld(t)
	begun := w.want(w.call("POST", "/v1/templates/web/builds", `{"dockerfile":"FROM minimal\nRUN make\n","tags":["v1"],"vcpus":2}`), http.StatusAccepted)
	b := decode[types.TemplateBuild](w, begun)
	at := begun.Header.Get("Location")
	if at != "/v1/templates/"+b.TemplateID+"/builds/"+b.ID || b.Status != "building" || b.VCPUs != 2 || !slices.Equal(b.Tags, []string{"v1"}) {
		t.Errorf("%+v at %q", b, at)
	}
	for _, path := range []string{at, "/v1/templates/web/builds/" + b.ID, "/v1/templates/-/builds/" + b.ID} {
		if got := decode[types.TemplateBuild](w, w.want(w.call("GET", path, ""), http.StatusOK)); !reflect.DeepEqual(got, b) {
			t.Errorf("%s: got %+v, want %+v", path, got, b)
		}
	}
	f.end(templates.BuildID(b.ID), templates.Ready, nil)
	got := decode[types.Template](w, w.want(w.call("GET", "/v1/templates/web", ""), http.StatusOK))
	if got.ID == nil || *got.ID != b.TemplateID || got.BuiltIn || got.BuildCount != 1 || got.Builds == nil || len(*got.Builds) != 1 || len(got.Tags) != 1 {
		t.Errorf("%+v", got)
	}
	// The id names it too, also in a request for another build.
	w.want(w.call("GET", "/v1/templates/"+*got.ID, ""), http.StatusOK)
	w.want(w.call("POST", "/v1/templates/"+*got.ID+"/builds", `{"from":{"template":"web"}}`), http.StatusAccepted)
	if last := f.requests[1]; last.build.Name != "web" || last.dockerfile.From != (plan.Base{Template: "web"}) {
		t.Errorf("%+v", last)
	}
	if list := decode[[]types.TemplateBuild](w, w.call("GET", "/v1/templates/web/builds", "")); len(list) != 2 || list[1].ID != b.ID {
		t.Errorf("%+v", list)
	}
	w.want(w.call("DELETE", "/v1/templates/web", ""), http.StatusNoContent)
	w.want(w.call("GET", "/v1/templates/web", ""), http.StatusNotFound)
	w.want(w.call("GET", at, ""), http.StatusNotFound)
}

func TestTemplatesOfAllKindsAreListed(t *testing.T) {
	w, f := newTemplateWorld(t)
	w.call("POST", "/v1/templates/web/builds", `{"dockerfile":"FROM x"}`)
	w.call("POST", "/v1/templates/api/builds", `{"dockerfile":"FROM x"}`)
	of := string(w.fake.add(sandbox.Running))
	var snaps []string
	for _, name := range []string{"", "kept", "warm"} {
		snap := decode[types.Snapshot](w, w.call("POST", "/v1/sandboxes/"+of+"/snapshots", `{}`))
		snaps = append(snaps, snap.ID)
		if name != "" {
			w.want(w.call("POST", "/v1/snapshots/"+snap.ID+"/template", `{"name":"`+name+`"}`), http.StatusOK)
		}
	}
	want := []string{"minimal", "api", "web", "warm", "kept"}
	for _, limit := range []string{"", "?limit=1", "?limit=2", "?limit=3", "?limit=1000"} {
		var got []string
		path := "/v1/templates" + limit
		for path != "" {
			a := w.want(w.call("GET", path, ""), http.StatusOK)
			page := decode[[]types.Template](w, a)
			if limit != "" && limit != "?limit=1000" && len(page) > int(limit[len(limit)-1]-'0') {
				t.Errorf("%s: a page of %d", path, len(page))
			}
			for _, tmpl := range page {
				got = append(got, tmpl.Name)
			}
			path = ""
			if next := a.Header.Get("X-Next-Cursor"); next != "" {
				path = "/v1/templates" + limit + "&cursor=" + next
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("list%s: got %v, want %v", limit, got, want)
		}
	}
	image := decode[types.Template](w, w.call("GET", "/v1/templates/"+want[0], ""))
	if !image.BuiltIn || image.ID != nil || image.VCPUs != nil {
		t.Errorf("an image: %+v", image)
	}
	kept := decode[types.Template](w, w.call("GET", "/v1/templates/kept", ""))
	if kept.BuiltIn || kept.SnapshotID == nil || *kept.SnapshotID != snaps[1] || *kept.VCPUs != 1 {
		t.Errorf("a snapshot: %+v", kept)
	}
	before := f.snapshot()
	for path, code := range map[string]string{want[0]: "template_built_in", "kept": "template_is_snapshot"} {
		if got := w.want(w.call("DELETE", "/v1/templates/"+path, ""), http.StatusConflict).fault(w); got.Code != code {
			t.Errorf("delete of %s: %+v", path, got)
		}
	}
	if f.snapshot() != before {
		t.Error("a refused delete has changed something")
	}
}

// sentEvent is one server-sent event.
type sentEvent struct{ name, id, data string }

// readEvents reads events until one is called last, or the stream ends.
func readEvents(t *testing.T, from *bufio.Scanner, last string) (out []sentEvent) {
	t.Helper()
	var e sentEvent
	for from.Scan() {
		line := from.Text()
		switch {
		case line == "" && e.name != "":
			out = append(out, e)
			if e.name == last {
				return out
			}
			e = sentEvent{}
		case strings.HasPrefix(line, "event: "):
			e.name = line[len("event: "):]
		case strings.HasPrefix(line, "id: "):
			e.id = line[len("id: "):]
		case strings.HasPrefix(line, "data: "):
			e.data = line[len("data: "):]
		}
	}
	return out
}

func openEvents(t *testing.T, ctx context.Context, method, url, body string, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", eventStream)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != eventStream {
		t.Fatalf("%s %s: %d %s", method, url, resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	return resp
}

func TestABuildIsFollowed(t *testing.T) {
	w, f := newTemplateWorld(t)
	resp := openEvents(t, t.Context(), "POST", w.url+"/v1/templates/web/builds", `{"dockerfile":"FROM minimal\nRUN false"}`)
	lines := bufio.NewScanner(resp.Body)
	first := readEvents(t, lines, "build")
	var b types.TemplateBuild
	if len(first) != 1 || json.Unmarshal([]byte(first[0].data), &b) != nil || b.ID == "" {
		t.Fatalf("%+v", first)
	}
	events := readEvents(t, lines, "progress")
	f.end(templates.BuildID(b.ID), templates.Failed, &templates.Reason{Message: "RUN false: exit status 1", Step: "1"})
	events = append(events, readEvents(t, lines, "result")...)
	var names []string
	for _, e := range events {
		names = append(names, e.name)
	}
	if want := []string{"progress", "log", "log", "progress", "result"}; !slices.Equal(names, want) {
		t.Fatalf("events %q, want %q", names, want)
	}
	checkSchema(t, "TemplateBuildProgress", []byte(events[0].data))
	checkSchema(t, "TemplateBuildLog", []byte(events[2].data))
	checkSchema(t, "TemplateBuild", []byte(events[4].data))
	if !strings.Contains(events[3].data, `"done":2,"total":2`) {
		t.Errorf("the last progress: %s, want 2 of 2", events[3].data)
	}
	if events[2].id != "2" || !strings.Contains(events[2].data, "RUN false") || !strings.Contains(events[4].data, "exit status 1") {
		t.Errorf("%+v", events)
	}

	// The log is read again from any entry, as a page or as events.
	at := w.url + "/v1/templates/web/builds/" + b.ID + "/logs"
	again := readEvents(t, bufio.NewScanner(openEvents(t, t.Context(), "GET", at, "", "Last-Event-ID: 1").Body), "result")
	if len(again) != 3 || again[1].id != "2" {
		t.Errorf("%+v", again)
	}
	for query, want := range map[string]int{"": 2, "?after=1": 1, "?after=2": 0, "?limit=1": 1} {
		if got := decode[[]types.TemplateBuildLog](w, w.want(w.call("GET", at[len(w.url):]+query, ""), http.StatusOK)); len(got) != want {
			t.Errorf("logs%s: %+v", query, got)
		}
	}
}

// TestImportIsAnEvent: the import of a base image is a progress of its own, in bytes.
func TestImportIsAnEvent(t *testing.T) {
	w, f := newTemplateWorld(t)
	b := decode[types.TemplateBuild](w, w.call("POST", "/v1/templates/web/builds", `{"dockerfile":"FROM x\nRUN y"}`))
	f.change(func() { f.builds[0].Import = &templates.Import{Detail: "pull x", Done: 5, Total: 10} })
	resp := openEvents(t, t.Context(), "GET", w.url+"/v1/templates/web/builds/"+b.ID+"/logs", "")
	lines := bufio.NewScanner(resp.Body)
	first := readEvents(t, lines, "progress")
	checkSchema(t, "TemplateBuildProgress", []byte(first[0].data))
	if want := `{"stage":"import","detail":"pull x","done":5,"total":10}`; first[0].data != want {
		t.Errorf("got %s, want %s", first[0].data, want)
	}
	f.change(func() { f.builds[0].Import = nil })
	f.end(templates.BuildID(b.ID), templates.Ready, nil)
	rest := readEvents(t, lines, "result")
	if last := rest[len(rest)-2]; last.name != "progress" || !strings.Contains(last.data, `"stage":"ready"`) || !strings.Contains(last.data, `"done":2,"total":2`) {
		t.Errorf("the last progress: %+v, want ready, 2 of 2", last)
	}
}

func TestAHangUpEndsNoBuild(t *testing.T) {
	w, f := newTemplateWorld(t, func(c *Config) { c.Answers = &fakeAnswers{} })
	for _, key := range []string{"X-None: 1", "Idempotency-Key: k"} {
		ctx, hangUp := context.WithCancel(t.Context())
		resp := openEvents(t, ctx, "POST", w.url+"/v1/templates/web/builds", `{"dockerfile":"FROM minimal"}`, key)
		readEvents(t, bufio.NewScanner(resp.Body), "log")
		hangUp()
		if _, err := io.ReadAll(resp.Body); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		list, _ := f.Builds(t.Context(), f.find("web").ID)
		if list[0].Status != templates.Building {
			t.Errorf("%s: the build is %s", key, list[0].Status)
		}
	}
}

func TestABuildIsCancelled(t *testing.T) {
	w, _ := newTemplateWorld(t)
	b := decode[types.TemplateBuild](w, w.call("POST", "/v1/templates/web/builds", `{"dockerfile":"FROM x"}`))
	w.call("POST", "/v1/templates/other/builds", `{"dockerfile":"FROM x"}`)
	w.want(w.call("DELETE", "/v1/templates/other/builds/"+b.ID, ""), http.StatusNotFound)
	w.want(w.call("DELETE", "/v1/templates/web/builds/"+b.ID, ""), http.StatusNoContent)
	got := decode[types.TemplateBuild](w, w.call("GET", "/v1/templates/web/builds/"+b.ID, ""))
	if got.Status != "error" || got.Reason == nil || !strings.Contains(got.Reason.Message, "cancelled") {
		t.Errorf("%+v", got)
	}
	if e := w.want(w.call("DELETE", "/v1/templates/-/builds/"+b.ID, ""), http.StatusConflict).fault(w); e.Code != "build_ended" {
		t.Errorf("%+v", e)
	}
}

func TestTags(t *testing.T) {
	w, f := newTemplateWorld(t)
	b := decode[types.TemplateBuild](w, w.call("POST", "/v1/templates/web/builds", `{"dockerfile":"FROM x"}`))
	f.end(templates.BuildID(b.ID), templates.Ready, nil)
	for tag, body := range map[string]string{"v1": `{"build_id":"` + b.ID + `"}`, "v2": `{"from_tag":"default"}`} {
		got := decode[types.TemplateTag](w, w.want(w.call("PUT", "/v1/templates/web/tags/"+tag, body), http.StatusOK))
		if got.Name != tag || got.BuildID != b.ID {
			t.Errorf("%+v", got)
		}
		if read := decode[types.TemplateTag](w, w.want(w.call("GET", "/v1/templates/web/tags/"+tag, ""), http.StatusOK)); read != got {
			t.Errorf("%+v, want %+v", read, got)
		}
		w.want(w.call("DELETE", "/v1/templates/web/tags/"+tag, ""), http.StatusNoContent)
		w.want(w.call("GET", "/v1/templates/web/tags/"+tag, ""), http.StatusNotFound)
	}
}

func TestUploads(t *testing.T) {
	w, f := newTemplateWorld(t)
	sum := sha256.Sum256([]byte("archive"))
	digest := hex.EncodeToString(sum[:])
	at := "/v1/templates/uploads/" + digest
	w.want(w.call("HEAD", at, ""), http.StatusNotFound)
	if got := w.want(w.call("PUT", at, "another"), http.StatusBadRequest).fault(w); got.Code != "upload_digest" {
		t.Errorf("%+v", got)
	}
	w.want(w.call("HEAD", at, ""), http.StatusNotFound)
	if got := decode[types.TemplateUpload](w, w.want(w.call("PUT", at, "archive"), http.StatusCreated)); got.Digest != digest {
		t.Errorf("%+v", got)
	}
	w.want(w.call("HEAD", at, ""), http.StatusOK)
	w.want(w.call("GET", at, ""), http.StatusOK)
	w.want(w.call("PUT", at, "whatever"), http.StatusOK) // it is not read
	w.want(w.call("POST", "/v1/templates/web/builds", `{"dockerfile":"FROM x","context":"`+digest+`"}`), http.StatusAccepted)
	if f.requests[0].dockerfile.Context != digest {
		t.Errorf("%+v", f.requests)
	}
}

func TestBuildRequestsAreReadWhole(t *testing.T) {
	w, f := newTemplateWorld(t)
	body := `{"dockerfile":"FROM a","target":"t","build_args":{"A":"1"},"secrets":{"S":"c2VjcmV0"},"secrets_encoding":"base64",
		"registries":[{"server":"ghcr.io","username":"u","password":"p"},{"server":"localhost:5000","username":"v","password":"q"}],
		"from":{"image":"debian:13"},"start_command":"serve","ready_command":"true","no_cache":true,"step_timeout_sec":90,"tags":["a"],
		"vcpus":4,"memory_mb":2048,"disk_mb":4096,"runtime":"gvisor"}`
	w.want(w.call("POST", "/v1/templates/web/builds", body), http.StatusAccepted)
	want := buildRequest{
		build: templates.NewBuild{Name: "web", Tags: []string{"a"}, VCPUs: 4, MemoryMB: 2048, DiskMB: 4096, Runtime: sandbox.RuntimeGVisor},
		dockerfile: templates.Dockerfile{
			Text: "FROM a", Target: "t", Args: map[string]string{"A": "1"}, Start: "serve", Ready: "true", NoCache: true, StepTimeout: 90 * time.Second,
			From: plan.Base{Image: "debian:13"},
		},
		inputs: templates.Inputs{
			Secrets:    map[string][]byte{"S": []byte("secret")},
			Registries: map[string]templates.Credentials{"ghcr.io": {Username: "u", Password: "p"}, "localhost:5000": {Username: "v", Password: "q"}},
		},
	}
	if got := f.requests[0]; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if strings.Contains(w.log.String(), "c2VjcmV0") || strings.Contains(w.log.String(), "secret") {
		t.Error("the log has the secret")
	}
}

// TestBadTemplateRequests: each request is refused, and changes nothing.
func TestBadTemplateRequests(t *testing.T) {
	w, f := newTemplateWorld(t)
	b := decode[types.TemplateBuild](w, w.call("POST", "/v1/templates/web/builds", `{"dockerfile":"FROM x"}`))
	const builds, none = "/v1/templates/new/builds", "00000000-0000-4000-8000-999999999999"
	digest := strings.Repeat("a", 64)
	before := f.snapshot()
	for _, c := range []struct {
		method, path, body string
		status             int
		message            string
	}{
		{"GET", "/v1/templates/none", "", 404, "no template"},
		{"GET", "/v1/templates/NONE", "", 404, "no template"},
		{"GET", "/v1/templates/uploads", "", 404, "no template"},
		{"GET", "/v1/templates/-", "", 404, "no template"},
		{"GET", "/v1/templates/..%2fx", "", 404, "no template"},
		{"GET", "/v1/templates?limit=0", "", 400, "limit"},
		{"GET", "/v1/templates?cursor=x.y", "", 400, "cursor"},
		{"GET", "/v1/templates?cursor=x", "", 400, "cursor"},
		{"GET", "/v1/templates?name=x", "", 400, "unknown query parameter"},
		{"DELETE", "/v1/templates/none", "", 404, "no template"},
		{"POST", "/v1/templates/uploads/builds", `{"dockerfile":"FROM x"}`, 400, "uploads"},
		{"POST", "/v1/templates/A/builds", `{"dockerfile":"FROM x"}`, 400, "lower-case"},
		{"POST", "/v1/templates/-/builds", `{"dockerfile":"FROM x"}`, 400, "lower-case"},
		{"POST", builds, ``, 400, "JSON object is required"},
		{"POST", builds, `{}`, 400, "dockerfile or from is required"},
		{"POST", builds, `{"dockerfile":" \n"}`, 400, "dockerfile has no instruction"},
		{"POST", builds, `{"dockerfile":1}`, 400, "dockerfile must be a string"},
		{"POST", builds, `{"dockerfile":"a\u0000"}`, 400, "NUL"},
		{"POST", builds, `{"dockerfile":"a","file":"b"}`, 400, `"file"`},
		{"POST", builds, `{"dockerfile":"a","context":"b"}`, 400, "SHA-256"},
		{"POST", builds, `{"dockerfile":"a","context":"` + digest + `"}`, 404, "no upload"},
		{"POST", builds, `{"dockerfile":"a","target":"` + strings.Repeat("x", 129) + `"}`, 400, "target"},
		{"POST", builds, `{"dockerfile":"a","build_args":{"A=":"1"}}`, 400, "build_args"},
		{"POST", builds, `{"dockerfile":"a","build_args":{"A":"\u0000"}}`, 400, "build_args.A"},
		{"POST", builds, `{"dockerfile":"a","step_timeout_sec":0}`, 400, "step_timeout_sec must be from 1 to 21600"},
		{"POST", builds, `{"dockerfile":"a","step_timeout_sec":21601}`, 400, "step_timeout_sec must be from 1 to 21600"},
		{"POST", builds, `{"dockerfile":"a","step_timeout_sec":"1h"}`, 400, "step_timeout_sec"},
		{"POST", builds, `{"dockerfile":"a","tags":[` + strings.Repeat(`"t",`, templates.MaxBuildTags) + `"t"]}`, 400, "at most 64 tags"},
		{"POST", builds, `{"dockerfile":"a","secrets":{"../x":"1"}}`, 400, "secrets"},
		{"POST", builds, `{"dockerfile":"a","secrets":{"a":"*"},"secrets_encoding":"base64"}`, 400, "secrets.a is not base64"},
		{"POST", builds, `{"dockerfile":"a","secrets_encoding":"hex"}`, 400, "secrets_encoding"},
		{"POST", builds, `{"dockerfile":"a","registries":{}}`, 400, "array of objects"},
		{"POST", builds, `{"dockerfile":"a","registries":[1]}`, 400, "must be an object"},
		{"POST", builds, `{"dockerfile":"a","registries":[{"server":"a/b","username":"u"}]}`, 400, "host name"},
		{"POST", builds, `{"dockerfile":"a","registries":[{"server":"a"}]}`, 400, "username"},
		{"POST", builds, `{"dockerfile":"a","registries":[{"server":"a","username":"u","password":""}]}`, 400, "password"},
		{"POST", builds, `{"dockerfile":"\u00d7"}`, 400, "no instruction"},
		{"POST", builds, `{"dockerfile":"a","registries":[{"server":"a","token":"u"}]}`, 400, `"registries.token"`},
		{"POST", builds, `{"dockerfile":"a","registries":[{"server":"a","username":"u","password":"p"},{"server":"a","username":"u","password":"p"}]}`, 400, "twice"},
		{"POST", builds, `{"from":"debian"}`, 400, "from must be an object"},
		{"POST", builds, `{"from":{}}`, 400, "one of image"},
		{"POST", builds, `{"from":{"image":"a","template":"b"}}`, 400, "one of image"},
		{"POST", builds, `{"from":{"image":""}}`, 400, "from.image"},
		{"POST", builds, `{"from":{"image":"a b"}}`, 400, "from.image"},
		{"POST", builds, `{"from":{"template":"../x"}}`, 400, "from.template"},
		{"POST", builds, `{"from":{"archive":"/etc/passwd"}}`, 400, "from.archive"},
		{"POST", builds, `{"dockerfile":"a","start_command":"` + strings.Repeat("x", plan.MaxText+1) + `"}`, 400, "start_command"},
		{"POST", builds, `{"dockerfile":"a","tags":["A"]}`, 400, "tag"},
		{"POST", builds, `{"dockerfile":"a","tags":["` + strings.Repeat(`a","`, 64) + `a"]}`, 400, "64 tags"},
		{"POST", builds, `{"dockerfile":"a","vcpus":0}`, 400, "vcpus"},
		{"POST", builds, `{"dockerfile":"a","memory_mb":1}`, 400, "memory_mb"},
		{"POST", builds, `{"dockerfile":"a","disk_mb":1}`, 400, "disk_mb"},
		{"POST", builds, `{"dockerfile":"a","runtime":"docker"}`, 400, "runtime"},
		{"GET", "/v1/templates/web/builds/x", "", 404, "no such build"},
		{"GET", "/v1/templates/web/builds/" + none, "", 404, "build"},
		{"GET", "/v1/templates/none/builds/" + b.ID, "", 404, "template"},
		{"GET", "/v1/templates/none/builds", "", 404, "template"},
		{"DELETE", "/v1/templates/web/builds/x", "", 404, "no such build"},
		{"GET", "/v1/templates/web/builds/" + b.ID + "/logs?after=-1", "", 400, "after"},
		{"GET", "/v1/templates/web/builds/" + b.ID + "/logs?after=x", "", 400, "after"},
		{"GET", "/v1/templates/web/builds/" + b.ID + "/logs?limit=1001", "", 400, "limit"},
		{"GET", "/v1/templates/web/tags/none", "", 404, "tag"},
		{"GET", "/v1/templates/web/tags/A", "", 404, "tag"},
		{"PUT", "/v1/templates/web/tags/a", `{}`, 400, "build_id or from_tag"},
		{"PUT", "/v1/templates/web/tags/a", `{"build_id":"x"}`, 400, "build_id"},
		{"PUT", "/v1/templates/web/tags/a", `{"from_tag":"X"}`, 400, "from_tag"},
		{"PUT", "/v1/templates/web/tags/a", `{"from_tag":"none"}`, 404, "tag"},
		{"PUT", "/v1/templates/none/tags/a", `{"from_tag":"default"}`, 404, "template"},
		{"DELETE", "/v1/templates/web/tags/none", "", 404, "tag"},
		{"GET", "/v1/templates/uploads/x", "", 404, "digest"},
		{"GET", "/v1/templates/uploads/" + digest, "", 404, "digest"},
		{"PUT", "/v1/templates/uploads/x", "a", 400, "SHA-256"},
		{"PUT", "/v1/templates/uploads/" + strings.ToUpper(digest), "a", 400, "SHA-256"},
	} {
		got := w.want(w.call(c.method, c.path, c.body), c.status).fault(w)
		if !strings.Contains(got.Message, c.message) {
			t.Errorf("%s %s %.100s: %q does not say %q", c.method, c.path, c.body, got.Message, c.message)
		}
	}
	f.buildErr = fault.New(fault.Invalid, "invalid_dockerfile", "Dockerfile:1: unknown instruction: FORM")
	if got := w.want(w.call("POST", builds, `{"dockerfile":"FORM a"}`), 400).fault(w); !strings.Contains(got.Message, "Dockerfile:1") {
		t.Errorf("%+v", got)
	}
	if f.snapshot() != before {
		t.Errorf("the requests have changed\n%s\nto\n%s", before, f.snapshot())
	}
}

func TestAServerWithoutTemplates(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/v1/templates", "/v1/templates/web", "/v1/templates/uploads/" + strings.Repeat("a", 64)} {
		if got := w.want(w.call("GET", path, ""), http.StatusNotImplemented).fault(w); got.Code != "templates_unsupported" {
			t.Errorf("%s: %+v", path, got)
		}
	}
}
