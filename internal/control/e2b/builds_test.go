package e2b

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control/templates"
)

func TestBeginBuild(t *testing.T) {
	f := newBench()
	got := read[map[string]any](t, f, "POST", "/v3/templates", `{"name":"Team/My-App:V1","tags":["x"],"cpuCount":1,"memoryMB":512,"minFreeDiskMb":4096,"teamID":null}`, 202)
	want := map[string]any{
		"templateID": "builtbuiltbuiltbuil0", "buildID": "00000000-0000-4000-8000-000000000000", "public": false,
		"names": []any{"my-app"}, "aliases": []any{"my-app"}, "tags": []any{"x", "v1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the answer to a begin differs (-want +got):\n%s", diff)
	}
	if b := f.builds[0]; b.VCPUs != 1 || b.MemoryMB != 512 || b.DiskMB != 6144 {
		t.Errorf("the build has %d vCPUs, %d and %d MiB, want 1, 512 and 6144", b.VCPUs, b.MemoryMB, b.DiskMB)
	}
	f.call(t, "POST", "/v3/templates", `{"alias":"old-form"}`, 202)
	for body, status := range map[string]int{
		`{}`:                                400,
		`{"name":" "}`:                      400,
		`{"name":"a b"}`:                    400,
		`{"name":"a:b:c"}`:                  400,
		`{"name":"a","tags":["A B"]}`:       400,
		`{"name":"a","cpuCount":0}`:         400,
		`{"name":"a","cpuCount":9999}`:      400,
		`{"name":"a","memoryMB":1}`:         400,
		`{"name":"a","memoryMB":"x"}`:       400,
		`{"name":"a","minFreeDiskMb":-1}`:   400,
		`{"name":"base"}`:                   409,
		`{"name":"team/minimal:v2"}`:        409,
		`[1]`:                               400,
		`{"name":"a","minFreeDiskMb":1e15}`: 400,
		`{"name":"a","tags":[` + strings.Repeat(`"t",`, 100) + `"t"]}`: 400,
	} {
		f.call(t, "POST", "/v3/templates", body, status)
	}
	if len(f.builds) != 2 {
		t.Errorf("%d builds after refusals, want the 2 of before", len(f.builds))
	}
	for i := range 7 {
		f.begin(t, fmt.Sprint("more", i))
	}
	w := f.call(t, "POST", "/v3/templates", `{"name":"too-many"}`, 429)
	if w.Header().Get("Retry-After") == "" || w.Header().Get("Should-Retry") == "" {
		t.Errorf("a refusal for too many builds has the headers %v, want Retry-After and Should-Retry", w.Header())
	}
}

// TestStartBuild: a build as a client sends it becomes a plan.
func TestStartBuild(t *testing.T) {
	f := newBench()
	f.agent = "e2b-js-sdk/2.51.0"
	b := f.begin(t, "app")
	path := "/v2/templates/" + b.TemplateID + "/builds/" + b.BuildID
	w := f.call(t, "POST", path, `{"fromImage":"ubuntu:22.04","startCmd":"serve","readyCmd":"sleep 1","force":true,
	 "fromImageRegistry":{"type":"registry","username":"me","password":"pw"},
	 "steps":[{"type":"COPY","args":["folder/*","dst/","",""],"force":false,"filesHash":"8e47"},
	          {"type":"COPY","args":["a.txt","/b.txt","root:root","0640"],"filesHash":"8e48","resolveSymlinks":true},
	          {"type":"RUN","args":["echo 1"],"force":true},{"type":"RUN","args":["echo 2","root"]},
	          {"type":"ENV","args":["A","1","B","$A"]},{"type":"WORKDIR","args":["/app"]},{"type":"USER","args":["someone"]}]}`, 202)
	if w.Body.Len() != 0 || w.Header().Get("Content-Length") != "0" {
		t.Errorf("the answer is %q with %v, want an empty one that says so", w.Body, w.Header())
	}
	mode := uint32(0o640)
	shell := func(command string) []string { return []string{"/bin/bash", "-l", "-c", command} }
	want := plan.Plan{
		Start: "serve", Ready: "sleep 1", GuestUser: true, NoCache: true,
		Stages: []plan.Stage{{From: plan.Base{Image: "ubuntu:22.04"}, Steps: []plan.Step{
			{ID: "1", Text: "COPY folder/* dst/", Copy: &plan.Copy{Context: "8e47", Sources: []string{"folder"}, Dest: "dst/", CurrentUser: true}},
			{ID: "2", Text: "COPY a.txt /b.txt root:root 0640", Copy: &plan.Copy{Context: "8e48", Sources: []string{"a.txt"}, Dest: "/b.txt", Owner: "root:root", Mode: &mode}},
			{ID: "3", Text: "RUN echo 1", NoCache: true, Run: &plan.Run{Argv: shell("echo 1")}},
			{ID: "4", Text: "RUN echo 2", Run: &plan.Run{Argv: shell("echo 2"), User: "root"}},
			{ID: "5", Text: "ENV A 1 B $A", Env: &plan.Env{Set: []plan.Variable{{Name: "A", Value: "1"}, {Name: "B", Value: "$A"}}, Expand: true}},
			{ID: "6", Text: "WORKDIR /app", Workdir: &plan.Workdir{Path: "/app"}},
			{ID: "7", Text: "USER someone", User: &plan.User{Name: "someone", Create: true}},
		}}},
	}
	if diff := cmp.Diff(want, f.plans[templates.BuildID(b.BuildID)]); diff != "" {
		t.Errorf("the plan differs (-want +got):\n%s", diff)
	}
	if f.inputs[0].Registry != (templates.Credentials{Username: "me", Password: "pw"}) {
		t.Error("the credentials are not passed on")
	}
	f.call(t, "POST", path, `{"fromImage":"a"}`, 409)
}

// TestBuildBases: the templates that a build can start from, as the references of the
// control plane.
func TestBuildBases(t *testing.T) {
	f := newBench()
	first := f.made(t, "first:v1")
	for ref, want := range map[string]string{
		"base": "minimal", "team/base:default": "minimal", template: template, "py": template,
		"first": "first", "first:v1": "first:v1", "first:" + first.BuildID: "first:" + first.BuildID, first.TemplateID: "first",
		"team/first": "first", "FIRST": "first",
	} {
		f.builds = f.builds[:1]
		b := f.begin(t, "second")
		f.call(t, "POST", "/v2/templates/second/builds/"+b.BuildID, fmt.Sprintf(`{"fromTemplate":%q}`, ref), 202)
		if got := f.plans[templates.BuildID(b.BuildID)].Stages[0].From; got != (plan.Base{Template: want}) {
			t.Errorf("from the template %q: %+v, want %q", ref, got, want)
		}
	}
}

func TestRefusedStarts(t *testing.T) {
	f := newBench()
	b := f.begin(t, "app")
	path := "/v2/templates/app/builds/" + b.BuildID
	const long = 64<<10 + 1
	for body, status := range map[string]int{
		``:   400,
		`{}`: 400,
		`{"fromImage":"a","fromTemplate":"base"}`: 400,
		`{"fromImage":"a b"}`:                     400,
		`{"fromTemplate":"nothing"}`:              404,
		`{"fromTemplate":"base","fromImageRegistry":{"type":"registry","username":"a","password":"b"}}`: 400,
		`{"fromImage":"a","fromImageRegistry":{"type":"aws","awsAccessKeyId":"a"}}`:                     400,
		`{"fromImage":"a","fromImageRegistry":{"type":"gcp","serviceAccountJson":"a"}}`:                 400,
		`{"fromImage":"a","fromImageRegistry":{"type":"registry","username":"a"}}`:                      400,
		step(`{"type":"ADD","args":["a","b"]}`):                                                         400,
		step(`{"type":"RUN"}`):                                                                          400,
		step(`{"type":"RUN","args":["a","b","c"]}`):                                                     400,
		step(`{"type":"RUN","args":["a\u0000"]}`):                                                       400,
		step(`{"type":"RUN","args":["` + strings.Repeat("a", long) + `"]}`):                             400,
		step(`{"type":"ENV","args":["A"]}`):                                                             400,
		step(`{"type":"ENV","args":["A=B","c"]}`):                                                       400,
		step(`{"type":"USER","args":[]}`):                                                               400,
		step(`{"type":"WORKDIR","args":[""]}`):                                                          400,
		step(`{"type":"COPY","args":["a","b"]}`):                                                        400,
		step(`{"type":"COPY","args":["a","b"],"filesHash":"../x"}`):                                     400,
		step(`{"type":"COPY","args":["a","b","","9"],"filesHash":"x"}`):                                 400,
		step(`{"type":"COPY","args":["a","b","","17777"],"filesHash":"x"}`):                             400,
		`{"fromImage":"a","steps":[` + strings.Repeat(`{"type":"RUN","args":["a"]},`, plan.MaxSteps) + `{"type":"RUN","args":["a"]}]}`: 400,
		`{"fromImage":"a","startCmd":"` + strings.Repeat("a", long) + `"}`:                                                             400,
		`{"fromImage":"` + strings.Repeat("a", 2<<20) + `"}`:                                                                           413,
	} {
		f.call(t, "POST", path, body, status)
	}
	f.begin(t, "other")
	for _, wrong := range []string{"/v2/templates/other/builds/" + b.BuildID, "/v2/templates/none/builds/" + b.BuildID, "/v2/templates/app/builds/none", "/v2/templates/app/builds/00000000-0000-4000-8000-000000000009"} {
		f.call(t, "POST", wrong, `{"fromImage":"a"}`, 404)
	}
	if len(f.plans) > 0 {
		t.Errorf("a refused start began a build: %v", f.plans)
	}
}

func step(text string) string { return `{"fromImage":"a","steps":[` + text + `]}` }

// TestCredentialsStaySecret: an answer quotes nothing of a registry's credentials.
func TestCredentialsStaySecret(t *testing.T) {
	f := newBench()
	b := f.begin(t, "app")
	for _, body := range []string{
		`{"fromImage":"a","fromImageRegistry":{"type":"registry","username":"hush","password":12345678}}`,
		`{"fromImage":"a","fromImageRegistry":"hush"}`,
		`{"fromImage":"a","fromImageRegistry":{"type":"hush","username":"hush","password":"hush"}}`,
		`{"fromImage":"a b","fromImageRegistry":{"type":"registry","username":"hush","password":"hush"}}`,
	} {
		w := f.call(t, "POST", "/v2/templates/app/builds/"+b.BuildID, body, 400)
		if text := w.Body.String(); strings.Contains(text, "hush") || strings.Contains(text, "1234") {
			t.Errorf("%s: the answer %s quotes the credentials", body, text)
		}
	}
}

// TestOldClients: the steps of clients before 2.3 begin as root, and sandboxes have the standard user.
func TestOldClients(t *testing.T) {
	for agent, old := range map[string]bool{
		"e2b-js-sdk/2.51.0": false, "e2b-python-sdk/2.3.0 harbor": false, "e2b-js-sdk/3.0.0": false, "node": false, "": false,
		"e2b-js-sdk/2.2.9": true, "e2b-python-sdk/1.9.0": true, "e2b-js-sdk/2.0.1 e2b-cli/2.0.0": true,
	} {
		f := newBench()
		f.agent = agent
		b := f.begin(t, "app")
		f.call(t, "POST", "/v2/templates/app/builds/"+b.BuildID, step(`{"type":"USER","args":["root"]}`), 202)
		p := f.plans[templates.BuildID(b.BuildID)]
		last := p.Stages[0].Steps[len(p.Stages[0].Steps)-1]
		if p.GuestUser == old || (last.Workdir != nil && last.Workdir.Path == guestHome) != old {
			t.Errorf("%q: the plan %+v, want one of an old client: %t", agent, p, old)
		}
	}
}

// TestLongSteps: the text of a long step in logs is short and valid.
func TestLongSteps(t *testing.T) {
	steps, err := stepsOf([]stepJSON{{Type: "run", Args: []string{strings.Repeat("ü", 5000)}}})
	if err != nil {
		t.Fatal(err)
	}
	if text := steps[0].Text; len(text) > maxShown+10 || !utf8.ValidString(text) || !strings.HasPrefix(text, "RUN ü") {
		t.Errorf("the text of a long step has %d bytes, want at most %d, valid: %.20q", len(text), maxShown+10, text)
	}
	if len(steps[0].Run.Argv[3]) != 10_000 {
		t.Error("the command itself was shortened")
	}
}

func TestEntryOf(t *testing.T) {
	for source, want := range map[string]string{
		"folder/*": "folder", "folder/sub/*.txt": "folder/sub", "fol*": ".", "*": ".", ".": ".", "./": ".", "a.txt": "a.txt",
		"./a/b": "a/b", "a/../b": "b", "../a": ".", "..": ".", "a/../../b": ".", "/a": "a", "a/{b,c}/d": "a", "a{1}": "a{1}",
		"a/[bc]/*": "a", "a/b?": "a", "**/x": ".", "//": ".",
	} {
		if got := entryOf(source); got != want {
			t.Errorf("%q: the entry %q, want %q", source, got, want)
		}
	}
}

func TestBuildStatus(t *testing.T) {
	f := newBench()
	b := f.begin(t, "app")
	path := "/templates/" + b.TemplateID + "/builds/" + b.BuildID + "/status"
	if got := f.call(t, "GET", path, "", 200).Body.String(); strings.TrimSpace(got) !=
		`{"templateID":"`+b.TemplateID+`","buildID":"`+b.BuildID+`","status":"waiting","logs":[],"logEntries":[]}` {
		t.Errorf("the status of a build without a log: %s", got)
	}
	for i := range 250 {
		f.say(b.BuildID, []string{"debug", "info", "warn", "error"}[i%4], fmt.Sprint(i%3), fmt.Sprint("line ", i))
	}
	f.finish(b.BuildID, &templates.Reason{Message: "exit status 2", Step: "2"})
	var seen []string
	for {
		got := read[statusJSON](t, f, "GET", fmt.Sprintf("%s?logsOffset=%d", path, len(seen)), "", 200)
		if len(got.LogEntries) == 0 {
			break
		}
		for _, e := range got.LogEntries {
			seen = append(seen, e.Message)
		}
		if got.Status != "error" || got.Reason.Message != "exit status 2" || got.Reason.Step != "2" || len(got.Reason.LogEntries) != reasonLogs {
			t.Fatalf("the status %+v, want an error with its reason", got)
		}
		if last := got.Reason.LogEntries[reasonLogs-1]; last.Message != "line 248" {
			t.Errorf("the reason ends with %q, want the last line of the step", last.Message)
		}
	}
	if len(seen) != 250 || seen[249] != "line 249" {
		t.Errorf("%d entries by offsets, want 250", len(seen))
	}
	warn := read[statusJSON](t, f, "GET", path+"?level=warn&logsOffset=1&limit=2", "", 200).LogEntries
	if len(warn) != 2 || warn[0].Message != "line 3" || warn[1].Message != "line 6" {
		t.Errorf("entries of at least warn: %+v, want lines 3 and 6", warn)
	}
	for _, wrong := range []string{"?logsOffset=x", "?logsOffset=-1", "?level=loud", "?limit=0"} {
		f.call(t, "GET", path+wrong, "", 400)
	}
	f.call(t, "GET", "/templates/app/builds/none/status", "", 404)
	f.call(t, "GET", "/templates/none/builds/"+b.BuildID+"/status", "", 404)
	base := source{image: "minimal"}.buildID()
	if got := read[statusJSON](t, f, "GET", "/templates/base/builds/"+base+"/status", "", 200); got.Status != "ready" || got.BuildID != base {
		t.Errorf("the build of an image: %+v, want ready", got)
	}
}

func TestBuildLogs(t *testing.T) {
	f := newBench()
	b := f.begin(t, "app")
	for i := range 5 {
		f.say(b.BuildID, "info", "1", fmt.Sprint(i))
	}
	const at = 1_800_000_000_000
	for query, want := range map[string]string{
		"": "01234", "?limit=2": "01", "?direction=backward&limit=2": "43", fmt.Sprint("?cursor=", at+2000): "234",
		fmt.Sprint("?direction=backward&cursor=", at+2000): "210", "?level=error": "",
	} {
		got := read[struct{ Logs []entryJSON }](t, f, "GET", "/templates/app/builds/"+b.BuildID+"/logs"+query, "", 200)
		var text string
		for _, e := range got.Logs {
			text += e.Message
		}
		if text != want || got.Logs == nil {
			t.Errorf("%q: the entries %q, want %q", query, text, want)
		}
	}
	f.call(t, "GET", "/templates/app/builds/"+b.BuildID+"/logs?direction=up", "", 400)
}

func TestUploads(t *testing.T) {
	f := newBench()
	b := f.begin(t, "app")
	hash := strings.Repeat("ab", 32)
	type link struct {
		Present bool
		URL     string
	}
	got := read[link](t, f, "GET", "/templates/"+b.TemplateID+"/files/"+hash, "", 201)
	if got.Present || !strings.HasPrefix(got.URL, "http://example.com/templates/") {
		t.Fatalf("the link of files that are missing: %+v", got)
	}
	put := func(target, body string, length int64, status int) {
		t.Helper()
		r := httptest.NewRequest("PUT", target, strings.NewReader(body)) // without a key
		r.ContentLength = length
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		if w.Code != status {
			t.Errorf("PUT %s with %d of %d bytes: status %d %s, want %d", target, len(body), length, w.Code, w.Body, status)
		}
	}
	broken := func(change func(url.Values)) string {
		u, err := url.Parse(got.URL)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		change(q)
		u.RawQuery = q.Encode()
		return u.String()
	}
	put(broken(func(q url.Values) { q.Del("signature") }), "x", 1, 401)
	put(broken(func(q url.Values) { q.Set("signature", "AAAA") }), "x", 1, 401)
	put(broken(func(q url.Values) { q.Set("expires", fmt.Sprint(time.Now().Add(48*time.Hour).Unix())) }), "x", 1, 401)
	put(strings.Replace(got.URL, hash, "other", 1), "x", 1, 401)
	put(strings.Replace(got.URL, b.TemplateID, "builtbuiltbuiltbuil9", 1), "x", 1, 401)
	expired := uploadLink{templates.ID(b.TemplateID), hash, time.Now().Unix() - 1}
	secret, _ := constantSecret{}.SigningSecret(t.Context())
	put(expired.url(httptest.NewRequest("GET", "/", nil), secret), "x", 1, 401)
	put(got.URL, "x", -1, 411)
	put(got.URL, strings.Repeat("x", 101), 101, 413)
	put(got.URL, "longer than it says", 4, 400)
	if len(f.blobs) != 0 {
		t.Errorf("refused uploads are kept: %v", f.blobs)
	}
	put(got.URL, "content", 7, 200)
	if f.blobs[templates.BlobKey{Template: templates.ID(b.TemplateID), Key: hash}] != "content" {
		t.Errorf("the uploads are %v, want the content", f.blobs)
	}
	if again := read[link](t, f, "GET", "/templates/app/files/"+hash, "", 201); !again.Present || again.URL == "" {
		t.Errorf("the link of files that are here: %+v, want present and a link", again)
	}
	f.begin(t, "other")
	if other := read[link](t, f, "GET", "/templates/other/files/"+hash, "", 201); other.Present {
		t.Error("files of another template are present")
	}
	f.call(t, "GET", "/templates/base/files/"+hash, "", 404)
	f.call(t, "GET", "/templates/app/files/a.b", "", 400)
	f.call(t, "PUT", "/templates/app/files/"+hash+"/content", "x", 401)
}

// TestWithoutBuilds: a server without builds refuses them, and has the other templates.
func TestWithoutBuilds(t *testing.T) {
	f := newBench()
	f.Handler = New(Config{Sandboxes: f.store, Next: f.Handler, Log: quiet(), Enter: keyed})
	f.call(t, "POST", "/v3/templates", `{"name":"a"}`, 501)
	f.call(t, "POST", "/templates/tags", `{}`, 501)
	f.call(t, "GET", "/templates/base", "", 200)
	f.call(t, "PUT", "/templates/app/files/x/content?expires=1&signature=x", "x", 401)
	var all []templateJSON
	if err := json.Unmarshal(f.call(t, "GET", "/templates", "", 200).Body.Bytes(), &all); err != nil || len(all) != 2 {
		t.Errorf("the list of templates: %v, %v, want an image and a snapshot", all, err)
	}
}
