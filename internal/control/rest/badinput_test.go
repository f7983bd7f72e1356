package rest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestBadInput: each request is refused with the status and a message that
// names the mistake, in the error shape, and changes nothing.
func TestBadInput(t *testing.T) {
	w := newWorld(t)
	run, paused := "/v1/sandboxes/"+string(w.fake.add(sandbox.Running)), "/v1/sandboxes/"+string(w.fake.add(sandbox.Paused))
	const create, unknown = "/v1/sandboxes", "/v1/sandboxes/aaaaaaaaaaaaaaaaaaaa"
	long := strings.Repeat("x", 5000)
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		message                  string
		header                   string
	}{
		{"path-like template", "POST", create, `{"template":"../../etc/passwd"}`, 400, "template", ""},
		{"two dots", "POST", create, `{"template":"a..b"}`, 400, "template", ""},
		{"absolute template", "POST", create, `{"template":"/minimal"}`, 400, "template", ""},
		{"empty template", "POST", create, `{"template":""}`, 400, "template", ""},
		{"template with NUL", "POST", create, `{"template":"a\u0000b"}`, 400, "template", ""},
		{"long template", "POST", create, `{"template":"` + long + `"}`, 400, "template", ""},
		{"no vcpus", "POST", create, `{"vcpus":0}`, 400, "vcpus must be from 1 to 8", ""},
		{"negative vcpus", "POST", create, `{"vcpus":-1}`, 400, "vcpus must be from 1 to 8", ""},
		{"many vcpus", "POST", create, `{"vcpus":1000}`, 400, "vcpus must be from 1 to 8", ""},
		{"huge vcpus", "POST", create, `{"vcpus":99999999999999999999}`, 400, "vcpus", ""},
		{"half a vcpu", "POST", create, `{"vcpus":1.5}`, 400, "vcpus must be an integer", ""},
		{"a number that is none", "POST", create, `{"vcpus":"NaN"}`, 400, "vcpus must be an integer", ""},
		{"huge exponent", "POST", create, `{"vcpus":1e300}`, 400, "vcpus is out of range", ""},
		{"endless exponent", "POST", create, `{"vcpus":1e99999}`, 400, "vcpus is out of range", ""},
		{"vcpus as text", "POST", create, `{"vcpus":"2"}`, 400, "vcpus must be an integer", ""},
		{"null", "POST", create, `{"vcpus":null}`, 400, "vcpus must be an integer", ""},
		{"little memory", "POST", create, `{"memory_mb":1}`, 400, "memory_mb", ""},
		{"no memory", "POST", create, `{"memory_mb":0}`, 400, "memory_mb", ""},
		{"much memory", "POST", create, `{"memory_mb":4097}`, 400, "memory_mb must be from 128 to 4096", ""},
		{"no disk", "POST", create, `{"disk_mb":0}`, 400, "disk_mb", ""},
		{"negative timeout", "POST", create, `{"timeout_sec":-1}`, 400, "timeout_sec", ""},
		{"overflowing timeout", "POST", create, `{"timeout_sec":9223372036854775807}`, 400, "timeout_sec", ""},
		{"isolation", "POST", create, `{"min_isolation":"total"}`, 400, "min_isolation", ""},
		{"env name", "POST", create, `{"env":{"A=B":"c"}}`, 400, "env", ""},
		{"env value", "POST", create, `{"env":{"A":1}}`, 400, "env.A must be a string", ""},
		{"env twice", "POST", create, `{"env":{"A":"1","A":"2"}}`, 400, "env.A", ""},
		{"env is an array", "POST", create, `{"env":["A=1"]}`, 400, "env must be an object", ""},
		{"metadata value", "POST", create, `{"metadata":{"A":{}}}`, 400, "metadata.A must be a string", ""},
		{"unknown field", "POST", create, `{"vcpu":1}`, 400, `"vcpu"`, ""},
		{"other case", "POST", create, `{"VCPUS":1}`, 400, `"VCPUS"`, ""},
		{"field twice", "POST", create, `{"vcpus":1,"vcpus":2}`, 400, "vcpus", ""},
		{"half an object", "POST", create, `{"vcpus":1`, 400, "JSON", ""},
		{"no JSON", "POST", create, `{vcpus:1}`, 400, "JSON", ""},
		{"an array", "POST", create, `[]`, 400, "JSON object", "Content-Type: application/json"},
		{"null body", "POST", create, `null`, 400, "JSON object", "Content-Type: application/json"},
		{"two objects", "POST", create, `{}{}`, 400, "nothing after", ""},
		{"trailing text", "POST", create, `{} x`, 400, "nothing after", ""},
		{"not UTF-8", "POST", create, "{\"template\":\"\xff\"}", 400, "UTF-8", ""},
		{"large body", "POST", create, `{"template":"` + strings.Repeat("x", maxJSONBytes) + `"}`, 413, "1048576", ""},
		{"deep", "POST", create, `{"env":` + strings.Repeat("[", 100000) + `}`, 400, "JSON", ""},
		{"form", "POST", create, `vcpus=1`, 415, "application/json", "Content-Type: application/x-www-form-urlencoded"},
		{"text", "POST", create, `{}`, 400, "Content-Type is given twice", "Content-Type: text/plain"},
		{"latin-1", "POST", create, ` {}`, 415, "application/json", "Content-Type: application/json; charset=latin-1"},
		{"gzip", "POST", create, `{}`, 415, "Content-Encoding", "Content-Encoding: gzip"},
		{"no media type", "POST", create, ` {}`, 415, "application/json", "Content-Type: ;;;"},

		{"lifetime", "POST", create, `{"lifetime_sec":2592001}`, 400, "lifetime_sec must be from 0 (never) to 2592000", ""},
		{"negative lifetime", "POST", create, `{"lifetime_sec":-1}`, 400, "lifetime_sec", ""},
		{"on_timeout", "POST", create, `{"on_timeout":"sleep"}`, 400, "on_timeout must be", ""},
		{"empty on_timeout", "POST", create, `{"on_timeout":""}`, 400, "on_timeout must be", ""},
		{"auto_resume", "POST", create, `{"auto_resume":"yes"}`, 400, "auto_resume must be true or false", ""},
		{"auto_resume null", "POST", create, `{"auto_resume":null}`, 400, "auto_resume must be true or false", ""},
		{"snapshot_id", "POST", create, `{"snapshot_id":"../x"}`, 404, "snapshot", ""},
		{"snapshot and sizes", "POST", create, `{"snapshot_id":"aaaa","vcpus":2}`, 400, "vcpus comes from the snapshot", ""},
		{"snapshot and no vcpus", "POST", create, `{"snapshot_id":"aaaa","vcpus":0}`, 400, "vcpus must be from 1 to 8", ""},

		{"timeout: unknown", "GET", unknown + "/timeout", "", 404, "sandbox", ""},
		{"timeout: set unknown", "PATCH", unknown + "/timeout", `{}`, 404, "sandbox", ""},
		{"timeout: idle", "PATCH", run + "/timeout", `{"timeout_sec":2592001}`, 400, "timeout_sec must be from 0 (never)", ""},
		{"timeout: huge", "PATCH", run + "/timeout", `{"lifetime_sec":9223372036854775807}`, 400, "lifetime_sec", ""},
		{"timeout: extend 0", "PATCH", run + "/timeout", `{"extend_sec":0}`, 400, "extend_sec must be from 1 to", ""},
		{"timeout: on_timeout", "PATCH", run + "/timeout", `{"on_timeout":"x"}`, 400, "on_timeout", ""},
		{"timeout: unknown field", "PATCH", run + "/timeout", `{"idle_sec":1}`, 400, `"idle_sec"`, ""},
		{"timeout: null", "PATCH", run + "/timeout", `{"timeout_sec":null}`, 400, "timeout_sec must be an integer", ""},
		{"timeout: another method", "POST", run + "/timeout", `{}`, 405, "method", ""},

		{"fork: unknown", "POST", unknown + "/fork", `{}`, 404, "sandbox", ""},
		{"fork: count type", "POST", run + "/fork", `{"count":"2"}`, 400, "count must be an integer", ""},
		{"fork: timeout", "POST", run + "/fork", `{"timeout_sec":-1}`, 400, "timeout_sec", ""},
		{"fork: extend", "POST", run + "/fork", `{"extend_sec":1}`, 400, `"extend_sec"`, ""},
		{"fork: env", "POST", run + "/fork", `{"env":{"A":1}}`, 400, "env.A must be a string", ""},

		{"snapshot: of unknown", "POST", unknown + "/snapshots", `{}`, 404, "sandbox", ""},
		{"snapshot: name type", "POST", run + "/snapshots", `{"name":1}`, 400, "name must be a string", ""},
		{"snapshot: unknown field", "POST", run + "/snapshots", `{"ephemeral":true}`, 400, `"ephemeral"`, ""},
		{"snapshot: get unknown", "GET", "/v1/snapshots/aaaa", "", 404, "snapshot", ""},
		{"snapshot: no id", "GET", "/v1/snapshots/NOT-AN-ID", "", 404, "snapshot", ""},
		{"snapshot: delete unknown", "DELETE", "/v1/snapshots/aaaa", "", 404, "snapshot", ""},
		{"snapshot: list sandbox_id", "GET", "/v1/snapshots?sandbox_id=..", "", 400, "sandbox_id", ""},
		{"snapshot: list name", "GET", "/v1/snapshots?name=" + long, "", 400, "name", ""},
		{"snapshot: list limit", "GET", "/v1/snapshots?limit=0", "", 400, "limit", ""},
		{"snapshot: list of limit", "GET", run + "/snapshots?limit=0", "", 400, "limit", ""},
		{"template: unknown", "POST", "/v1/snapshots/aaaa/template", `{"name":"x"}`, 404, "snapshot", ""},
		{"template: no name", "POST", "/v1/snapshots/aaaa/template", `{}`, 400, "name is required", ""},
		{"template: remove unknown", "DELETE", "/v1/snapshots/aaaa/template", "", 404, "snapshot", ""},
		{"gc: type", "POST", "/v1/gc", `{"dry_run":"no"}`, 400, "dry_run must be true or false", ""},
		{"gc: unknown field", "POST", "/v1/gc", `{"force":true}`, 400, `"force"`, ""},

		{"list: status", "GET", create + "?status=alive", "", 400, "status", ""},
		{"list: empty status", "GET", create + "?status=", "", 400, "status", ""},
		{"list: one bad status", "GET", create + "?status=running,alive", "", 400, "status", ""},
		{"list: limit 0", "GET", create + "?limit=0", "", 400, "limit must be from 1 to 1000", ""},
		{"list: limit 1001", "GET", create + "?limit=1001", "", 400, "limit", ""},
		{"list: limit text", "GET", create + "?limit=x", "", 400, "limit", ""},
		{"list: empty limit", "GET", create + "?limit=", "", 400, "limit", ""},
		{"list: limit twice", "GET", create + "?limit=1&limit=2", "", 400, "limit", ""},
		{"list: template", "GET", create + "?template=../x", "", 400, "template", ""},
		{"list: cursor", "GET", create + "?cursor=nonsense", "", 400, "cursor", ""},
		{"list: long cursor", "GET", create + "?cursor=" + long, "", 400, "cursor", ""},
		{"list: broken query", "GET", create + "?limit=%zz", "", 400, "query", ""},

		{"get: unknown", "GET", unknown, "", 404, "sandbox", ""},
		{"get: no id", "GET", "/v1/sandboxes/NOT-AN-ID", "", 404, "sandbox", ""},
		{"get: traversal", "GET", "/v1/sandboxes/..%2f..%2fetc", "", 404, "sandbox", ""},
		{"delete: unknown", "DELETE", unknown, "", 404, "sandbox", ""},
		{"pause: unknown", "POST", unknown + "/pause", "", 404, "sandbox", ""},
		{"resume: unknown", "POST", unknown + "/resume", "", 404, "sandbox", ""},
		{"pause: paused", "POST", paused + "/pause", "", 409, "paused", ""},
		{"resume: running", "POST", run + "/resume", "", 409, "running", ""},

		{"exec: unknown", "POST", unknown + "/exec", `{"cmd":"ls"}`, 404, "sandbox", ""},
		{"exec: paused", "POST", paused + "/exec", `{"cmd":"ls"}`, 409, "paused", ""},
		{"exec: empty", "POST", run + "/exec", ``, 400, "JSON object is required", ""},
		{"exec: no cmd", "POST", run + "/exec", `{}`, 400, "cmd is required", ""},
		{"exec: empty cmd", "POST", run + "/exec", `{"cmd":""}`, 400, "cmd is required", ""},
		{"exec: cmd type", "POST", run + "/exec", `{"cmd":["ls"]}`, 400, "cmd must be a string", ""},
		{"exec: NUL", "POST", run + "/exec", `{"cmd":"a\u0000"}`, 400, "NUL", ""},
		{"exec: NUL in args", "POST", run + "/exec", `{"cmd":"a","args":["\u0000"]}`, 400, "NUL", ""},
		{"exec: args type", "POST", run + "/exec", `{"cmd":"a","args":"b"}`, 400, "args must be an array of strings", ""},
		{"exec: arg type", "POST", run + "/exec", `{"cmd":"a","args":["b",1]}`, 400, "args[1] must be a string", ""},
		{"exec: arg null", "POST", run + "/exec", `{"cmd":"a","args":[null]}`, 400, "args[0] must be a string", ""},
		{"exec: timeout 0", "POST", run + "/exec", `{"cmd":"a","timeout_sec":0}`, 400, "timeout_sec must be from 1 to 86400", ""},
		{"exec: timeout", "POST", run + "/exec", `{"cmd":"a","timeout_sec":86401}`, 400, "timeout_sec", ""},
		{"exec: timeout type", "POST", run + "/exec", `{"cmd":"a","timeout_sec":true}`, 400, "timeout_sec must be an integer", ""},
		{"exec: relative cwd", "POST", run + "/exec", `{"cmd":"a","cwd":"tmp"}`, 400, "cwd", ""},
		{"exec: user", "POST", run + "/exec", `{"cmd":"a","user":"root:0"}`, 400, "user", ""},
		{"exec: env", "POST", run + "/exec", `{"cmd":"a","env":{"":"x"}}`, 400, "env", ""},
		{"exec: stdin", "POST", run + "/exec", `{"cmd":"a","stdin":"*","stdin_encoding":"base64"}`, 400, "base64", ""},
		{"exec: stdin encoding", "POST", run + "/exec", `{"cmd":"a","stdin_encoding":"hex"}`, 400, "stdin_encoding", ""},
		{"exec: streamed, no cmd", "POST", run + "/exec", `{}`, 400, "cmd", "Accept: application/x-ndjson"},
		{"exec: streamed, paused", "POST", paused + "/exec", `{"cmd":"a"}`, 409, "paused", "Accept: application/x-ndjson"},

		{"read: no path", "POST", run + "/files/read", `{}`, 400, "path is required", ""},
		{"read: relative", "POST", run + "/files/read", `{"path":"etc/passwd"}`, 400, "absolute", ""},
		{"read: NUL", "POST", run + "/files/read", `{"path":"/a\u0000b"}`, 400, "NUL", ""},
		{"read: long", "POST", run + "/files/read", `{"path":"/` + long + `"}`, 400, "4095", ""},
		{"read: user", "POST", run + "/files/read", `{"path":"/a","user":"../x"}`, 400, "user", ""},
		{"read: missing", "POST", run + "/files/read", `{"path":"/nothing"}`, 404, "/nothing", ""},
		{"read: unknown", "POST", unknown + "/files/read", `{"path":"/a"}`, 404, "sandbox", ""},
		{"read: paused", "POST", paused + "/files/read", `{"path":"/a"}`, 409, "paused", ""},
		{"get file: no path", "GET", run + "/files", "", 400, "path is required", ""},
		{"get file: relative", "GET", run + "/files?path=a", "", 400, "absolute", ""},
		{"get file: twice", "GET", run + "/files?path=/a&path=/b", "", 400, "path", ""},
		{"get file: missing", "GET", run + "/files?path=/a", "", 404, "/a", ""},
		{"put: no path", "PUT", run + "/files", "x", 400, "path is required", ""},
		{"put: relative", "PUT", run + "/files?path=x", "x", 400, "absolute", ""},
		{"put: NUL", "PUT", run + "/files?path=/x%00y", "x", 400, "NUL", ""},
		{"put: mode", "PUT", run + "/files?path=/x&mode=rw", "x", 400, "mode", ""},
		{"put: mode 8", "PUT", run + "/files?path=/x&mode=0888", "x", 400, "mode", ""},
		{"put: large mode", "PUT", run + "/files?path=/x&mode=77777", "x", 400, "mode", ""},
		{"put: empty mode", "PUT", run + "/files?path=/x&mode=", "x", 400, "mode", ""},
		{"put: user", "PUT", run + "/files?path=/x&user=A", "x", 400, "user", ""},
		{"put: form", "PUT", run + "/files?path=/x", "x", 415, "form", "Content-Type: multipart/form-data; boundary=b"},
		{"put: gzip", "PUT", run + "/files?path=/x", "x", 415, "Content-Encoding", "Content-Encoding: gzip"},
		{"put: paused", "PUT", paused + "/files?path=/x", "x", 409, "paused", ""},
		{"put: unknown", "PUT", unknown + "/files?path=/x", "x", 404, "sandbox", ""},
		{"write: JSON", "POST", run + "/files/write", `{"path":"/a"}`, 415, "multipart/form-data", ""},
		{"write: no type", "POST", run + "/files/write", ``, 415, "multipart/form-data", ""},
		{"write: no boundary", "POST", run + "/files/write", `x`, 400, "boundary", "Content-Type: multipart/form-data"},

		{"no route", "GET", "/v2/sandboxes", "", 404, "route", ""},
		{"no route under a sandbox", "POST", run + "/explode", "", 404, "route", ""},
		{"two trailing slashes", "GET", "/v1/sandboxes//", "", 404, "", ""},
		{"create: no body", "POST", create, ``, 400, "JSON object is required", ""},
		{"create: blank body", "POST", create, " \n", 400, "JSON object is required", "Content-Type: application/json"},
		{"timeout: no body", "PATCH", run + "/timeout", ``, 400, "JSON object is required", ""},
		{"read: no body", "POST", run + "/files/read", ``, 400, "JSON object is required", ""},
		{"lone surrogate", "POST", create, `{"metadata":{"a":"\ud800"}}`, 400, `\ud800`, ""},
		{"lone surrogate in a name", "POST", create, `{"metadata":{"\udc00":"a"}}`, 400, `\udc00`, ""},
		{"halves in the wrong order", "POST", run + "/exec", `{"cmd":"echo","args":["\udc00\ud800"]}`, 400, `\udc00`, ""},
		{"half before text", "POST", run + "/exec", `{"cmd":"echo","stdin":"\uD83Dx"}`, 400, `\uD83D`, ""},
		{"path not UTF-8", "GET", run + "/files?path=/tmp/a%ff", "", 400, "UTF-8", ""},
		{"path not UTF-8, put", "PUT", run + "/files?path=/tmp/a%ff", "x", 400, "UTF-8", ""},
		{"form says what to do", "POST", create, `vcpus=1`, 415, `"application/x-www-form-urlencoded" and must be application/json`, "Content-Type: application/x-www-form-urlencoded"},
		{"unknown parameter", "GET", create + "?utm_source=x", "", 400, `"utm_source"; this operation takes status`, ""},
		{"unknown parameter of create", "POST", create + "?name=x", `{}`, 400, `"name"; this operation takes none`, ""},
		{"unknown parameter of delete", "DELETE", run + "?force=1", ``, 400, `"force"`, ""},
		{"query that is none", "GET", run + "?%zz", ``, 400, "query string", ""},
		{"no asset", "GET", "/docs/nothing.js", "", 404, "route", ""},
		{"asset traversal", "GET", "/docs/..%2fdocs.go", "", 404, "route", ""},
		{"method", "PATCH", create, "", 405, "method", ""},
		{"method on a sandbox", "PUT", run, "", 405, "method", ""},
		{"made-up method", "BREW", create, "", 405, "method", ""},
		{"made-up method, no route", "BREW", "/coffee", "", 404, "route", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := *w
			w.T = t
			before := w.fake.snapshot()
			var headers []string
			if c.header != "" {
				headers = append(headers, c.header)
			}
			a := w.call(c.method, c.path, c.body, headers...)
			if got := w.want(a, c.status).fault(&w); !strings.Contains(got.Message, c.message) {
				t.Errorf("message %q does not say %q", got.Message, c.message)
			}
			if after := w.fake.snapshot(); after != before {
				t.Errorf("it changed something:\n%s\n%s", before, after)
			}
		})
	}
}

func TestAllowedMethods(t *testing.T) {
	w := newWorld(t)
	for path, want := range map[string]string{
		"/v1/sandboxes":            "GET, HEAD, POST, OPTIONS",
		"/v1/sandboxes/abc":        "GET, HEAD, DELETE, OPTIONS",
		"/v1/sandboxes/abc/files":  "GET, HEAD, PUT, DELETE, OPTIONS",
		"/v1/sandboxes/abc/exec":   "POST, OPTIONS",
		"/v1/sandboxes/a%2fb/exec": "POST, OPTIONS",
		"/healthz":                 "GET, HEAD, OPTIONS",
	} {
		if got := w.want(w.call("PATCH", path, ""), http.StatusMethodNotAllowed).Header.Get("Allow"); got != want {
			t.Errorf("%s: Allow is %q, want %q", path, got, want)
		}
		a := w.want(w.call("OPTIONS", path, ""), http.StatusNoContent)
		if got := a.Header.Get("Allow"); got != want || a.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("OPTIONS %s: %v", path, a.Header)
		}
	}
	w.want(w.call("OPTIONS", "/nothing", ""), http.StatusNotFound)
	w.want(w.call("HEAD", "/v1/sandboxes/abc/exec", ""), http.StatusMethodNotAllowed)
}
