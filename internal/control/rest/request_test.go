package rest

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestTrailingSlash: each documented operation is found with a slash at its end.
func TestTrailingSlash(t *testing.T) {
	w := newWorld(t)
	id := string(w.fake.add(sandbox.Running))
	for method, path := range map[string]string{"GET": "/v1/sandboxes/", "POST": "/v1/sandboxes/", "DELETE": "/v1/sandboxes/" + id + "/"} {
		req, err := http.NewRequest(method, w.url+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode >= 300 {
			t.Errorf("%s %s: %d, want success", method, path, resp.StatusCode)
		}
	}
	if a := w.want(w.call("PUT", "/v1/sandboxes/", ""), http.StatusMethodNotAllowed); a.Header.Get("Allow") == "" {
		t.Error("405 without Allow")
	}
}

// TestDocumentedParametersAreKnown holds the parameters that the router takes
// against those of the document.
func TestDocumentedParametersAreKnown(t *testing.T) {
	w := newWorld(t)
	for path, item := range document().Paths.Map() {
		if !strings.HasPrefix(path, "/v1/") {
			continue
		}
		at := strings.ReplaceAll(path, "{id}", "aaaaaaaaaaaaaaaaaaaa")
		for method, op := range item.Operations() {
			code := func(query string) string {
				a := w.call(method, at+"?"+query, "{}")
				if a.StatusCode < 400 {
					return ""
				}
				return a.fault(w).Code
			}
			if got := code("surely_unknown=1"); got != "unknown_parameter" {
				t.Errorf("%s %s: an unknown parameter gives %q", method, path, got)
			}
			for _, p := range append(item.Parameters, op.Parameters...) {
				name := p.Value.Name
				if name == "metadata" {
					name = "metadata.key"
				}
				if p.Value.In == "query" && code(name+"=1") == "unknown_parameter" {
					t.Errorf("%s %s: the parameter %s is documented and unknown", method, path, name)
				}
			}
		}
	}
}

// TestIntegersAsTheyAreWritten: JSON has one kind of number.
func TestIntegersAsTheyAreWritten(t *testing.T) {
	w := newWorld(t)
	w.want(w.call("POST", "/v1/sandboxes", `{"vcpus":2.0,"memory_mb":1.024e3,"timeout_sec":0e0}`), http.StatusCreated)
	if got := w.fake.rows[0].Spec; got.VCPUs != 2 || got.MemoryMB != 1024 || got.Timeout != 0 {
		t.Errorf("%+v", got)
	}
}

func TestPairsOfSurrogatesPass(t *testing.T) {
	w := newWorld(t)
	w.want(w.call("POST", "/v1/sandboxes", `{"metadata":{"a":"\ud83d\ude00 \\ud800 \\\ud83d\ude00","b\uD83D\uDE00":"\u0041"}}`), http.StatusCreated)
	got := w.fake.rows[0].Metadata
	if got["a"] != `😀 \ud800 \😀` || got["b😀"] != "A" {
		t.Errorf("metadata %q", got)
	}
}

// TestCommandLineHint: the error of a command line in cmd explains cmd.
func TestCommandLineHint(t *testing.T) {
	w, path := execWorld(t)
	w.fake.exec = func(_ context.Context, e control.Exec, _ control.ExecSink) (control.ExecResult, error) {
		return control.ExecResult{}, fault.New(fault.Invalid, "command_not_found", "command '%s' was not found", e.Cmd)
	}
	for body, hint := range map[string]bool{
		`{"cmd":"ls -la /"}`: true, `{"cmd":"a|b"}`: true, `{"cmd":"nosuch"}`: false, `{"cmd":"my program","args":["x"]}`: false,
	} {
		for _, accept := range []string{"application/json", ndjson} {
			got := w.want(w.call("POST", path, body, "Accept: "+accept), http.StatusBadRequest).fault(w)
			if got.Code != "command_not_found" || strings.Contains(got.Message, `"args"`) != hint {
				t.Errorf("%s: %+v, want a hint %t", body, got, hint)
			}
		}
	}
}

// TestFilesBeforeFields: a file of at most a mebibyte may come in any place; a
// larger one needs its fields first.
func TestFilesBeforeFields(t *testing.T) {
	small, large := strings.Repeat("s", maxSpool), strings.Repeat("l", maxSpool+1)
	for _, c := range []struct {
		name   string
		query  string
		parts  []string
		status int
		code   string
	}{
		{"small first", "", []string{"file=" + small, "path=/a", "mode=0600"}, 204, ""},
		{"small between", "", []string{"path=/a", "file=" + small, "mode=0600"}, 204, ""},
		{"empty first", "", []string{"file=", "path=/a", "mode=0600"}, 204, ""},
		{"large last", "", []string{"path=/a", "mode=0600", "file=" + large}, 204, ""},
		{"large, path in the query", "?path=/a&mode=0600", []string{"file=" + large}, 204, ""},
		{"large first", "", []string{"file=" + large, "path=/a"}, 400, "missing_path"},
		{"large between", "", []string{"path=/a", "file=" + large, "mode=0600"}, 400, "field_after_file"},
		{"small without a path", "", []string{"file=" + small}, 400, "missing_path"},
		{"small with a bad path", "", []string{"file=" + small, "path=a"}, 400, "invalid_path"},
		{"path that is not UTF-8", "", []string{"file=x", "path=/a\xff"}, 400, "invalid_path"},
		{"broken off", "", []string{"file=" + small, "path=/a", "..."}, 400, "invalid_form"},
	} {
		w, path := filesWorld(t)
		body, typ := formBody(c.parts...)
		a := w.want(w.call("POST", path+"/write"+c.query, body, "Content-Type: "+typ), c.status)
		if c.status != http.StatusNoContent {
			if got := a.fault(w); got.Code != c.code || len(w.fake.files) > 0 {
				t.Errorf("%s: %s and %d files, want %s and none", c.name, got.Code, len(w.fake.files), c.code)
			}
			continue
		}
		got := w.fake.files["/a"]
		if got.where.Mode == nil || *got.where.Mode != 0o600 || got.size != int64(len(strings.TrimPrefix(c.parts[fileAt(c.parts)], "file="))) {
			t.Errorf("%s: wrote %+v", c.name, got.where)
		}
	}
}

func fileAt(parts []string) int {
	for i, p := range parts {
		if strings.HasPrefix(p, "file=") {
			return i
		}
	}
	return -1
}

func TestListsLeaveRestoreReportOut(t *testing.T) {
	w := newWorld(t)
	id := w.fake.add(sandbox.Running)
	w.fake.rows[0].RestoreReport = &sandbox.RestoreReport{Reseeded: true}
	if a := w.want(w.call("GET", "/v1/sandboxes", ""), http.StatusOK); strings.Contains(string(a.body), "restore_report") {
		t.Errorf("the list has a restore report: %s", a.body)
	}
	if a := w.want(w.call("GET", "/v1/sandboxes/"+string(id), ""), http.StatusOK); !strings.Contains(string(a.body), `"reseeded":true`) {
		t.Errorf("the detail has no restore report: %s", a.body)
	}
}

// TestSnapshotFilters: a filter that nothing fits gives an empty list; names
// are bounded as documented.
func TestSnapshotFilters(t *testing.T) {
	w := newWorld(t)
	w.want(w.call("GET", "/v1/snapshots?sandbox_id=aaaaaaaaaaaaaaaaaaaa", ""), http.StatusOK)
	w.want(w.call("GET", "/v1/sandboxes/aaaaaaaaaaaaaaaaaaaa/snapshots", ""), http.StatusNotFound)
	w.want(w.call("GET", "/v1/snapshots?name="+strings.Repeat("%C3%A9", control.MaxSnapshotName), ""), http.StatusOK)
	for _, bad := range []string{strings.Repeat("x", control.MaxSnapshotName+1), "", "%0a", "%ff"} {
		if got := w.want(w.call("GET", "/v1/snapshots?name="+bad, ""), http.StatusBadRequest).fault(w); got.Code != "invalid_name" {
			t.Errorf("name %q: %s, want invalid_name", bad, got.Code)
		}
	}
}

// TestBodyOfPauseAndResume: both take the field memory alone, and an unknown one is
// refused before the sandbox changes.
func TestBodyOfPauseAndResume(t *testing.T) {
	for _, op := range []string{"pause", "resume"} {
		for body, code := range map[string]string{`{"force":true}`: "unknown_field", `[]`: "invalid_json", `{"memory":0}`: "invalid_type", "": "", "{}": "", `{"memory":true}`: ""} {
			w := newWorld(t)
			state := map[string]sandbox.State{"pause": sandbox.Running, "resume": sandbox.Paused}[op]
			id := w.fake.add(state)
			a := w.call("POST", "/v1/sandboxes/"+string(id)+"/"+op, body)
			if code == "" {
				w.want(a, http.StatusOK)
				continue
			}
			if got := w.want(a, http.StatusBadRequest).fault(w); got.Code != code || w.fake.rows[0].State != state {
				t.Errorf("%s with %s: %s in state %s, want %s in state %s", op, body, got.Code, w.fake.rows[0].State, code, state)
			}
		}
	}
}

// TestMemoryOfPauseAndResume: a pause without memory is shown as such, needs the guest,
// and either kind of pause can be resumed without memory.
func TestMemoryOfPauseAndResume(t *testing.T) {
	w := newWorld(t)
	path := "/v1/sandboxes/" + string(w.fake.add(sandbox.Running))
	if got := w.want(w.call("POST", path+"/pause?force=true", `{"memory":false}`), http.StatusBadRequest).fault(w); got.Code != "invalid_force" {
		t.Errorf("pause without memory, by force: %s, want invalid_force", got.Code)
	}
	got := decode[types.Sandbox](w, w.want(w.call("POST", path+"/pause", `{"memory":false}`), http.StatusOK))
	if got.Status != "paused" || got.PauseMode == nil || *got.PauseMode != "disk" {
		t.Errorf("paused without memory it is %s in mode %v, want paused in mode disk", got.Status, got.PauseMode)
	}
	got = decode[types.Sandbox](w, w.want(w.call("POST", path+"/resume", `{"memory":false}`), http.StatusOK))
	if got.Status != "running" || got.PauseMode != nil || w.fake.reboots != 1 {
		t.Errorf("after a resume without memory it is %s in mode %v with %d reboots, want running without a mode and 1", got.Status, got.PauseMode, w.fake.reboots)
	}
}

// TestTrailingSlashOfAFile: a slash at the end names a directory.
func TestTrailingSlashOfAFile(t *testing.T) {
	w, path := filesWorld(t)
	w.fake.files = map[string]fakeFile{"/etc/passwd": {data: []byte("x"), size: 1}, "/etc/passwd/": {data: []byte("x"), size: 1}}
	w.want(w.call("POST", path+"/read", `{"path":"/etc/passwd"}`), http.StatusOK)
	for _, a := range []answer{w.call("POST", path+"/read", `{"path":"/etc/passwd/"}`), w.call("GET", path+"?path=/etc/passwd/", "")} {
		if got := w.want(a, http.StatusBadRequest).fault(w); got.Code != "not_a_directory" {
			t.Errorf("a file with a slash: got %s, want not_a_directory", got.Code)
		}
	}
}
