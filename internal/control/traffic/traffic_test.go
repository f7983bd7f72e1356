package traffic_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/traffic"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// mirror answers with the request that a program gets.
func mirror(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s %s\n", r.Method, r.RequestURI, r.Host)
	_ = r.Header.Write(w)
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, http.HandlerFunc(mirror))
	id := string(box)
	token := "X-Wrenn-Traffic-Token: " + w.token
	for _, c := range []struct {
		host, path string
		headers    []string
		status     int
		want       string
	}{
		{"3000-" + id + ".box.test", "/a?b=c", nil, 200, "GET /a?b=c 3000-" + id + ".box.test\n"},
		{"3000-" + id + ".box.test:8080", "/", nil, 200, "GET / 3000-" + id + ".box.test:8080\n"},
		{"3000-" + strings.ToUpper(id) + ".BOX.test.", "/", nil, 200, "GET / "},
		{"3000-" + id + "-client.box.test", "/", nil, 200, "GET / "},
		{"3000-" + id + ".other.test", "/", nil, 200, "the API"},
		{"3000-" + id + ".x.box.test", "/", nil, 200, "the API"},
		{"api.box.test", "/", nil, 200, "the API"},
		{"some-thing.box.test", "/", nil, 200, "the API"},
		{"box.test", "/", nil, 200, "the API"},
		{"3000-A_B.box.test", "/", nil, 400, "Invalid sandbox ID"},
		{"70000-" + id + ".box.test", "/", nil, 400, "Invalid sandbox port"},
		{"0-" + id + ".box.test", "/", nil, 400, "Invalid sandbox port"},
		{"any.test", "/x", []string{"E2b-Sandbox-Id: " + id, "E2b-Sandbox-Port: 3000"}, 200, "GET /x any.test\n"},
		{"any.test", "/x", []string{"E2b-Sandbox-Id: " + id}, 400, "missing header"},
		{"any.test", "/x", []string{"E2b-Sandbox-Port: 3000"}, 400, "missing header"},
		{"any.test", "/x", []string{"E2b-Sandbox-Id: " + id, "E2b-Sandbox-Port: x"}, 400, "Invalid sandbox port"},
		{"any.test", "/v1/sandboxes/" + id + "/ports/3000/a%2Fb/?q=%zz;", nil, 200, "GET /a%2Fb/?q=%zz; any.test\n"},
		{"any.test", "/v1/sandboxes/" + id + "/ports/3000/", nil, 200, "GET / any.test\n"},
		{"any.test", "/v1/sandboxes/" + id + "/ports/3000?q", nil, 308, ""},
		{"any.test", "/v1/sandboxes/" + id + "/ports/x/", nil, 400, "Invalid sandbox port"},
		{"any.test", "/v1/sandboxes/" + id + "/ports", nil, 200, "the API"},
		{"any.test", "/v1/sandboxes/" + id, nil, 200, "the API"},
	} {
		a := w.do(w.request("GET", c.host, c.path, nil, append(c.headers, token)...))
		if a.StatusCode != c.status || !strings.HasPrefix(a.body, c.want) {
			t.Errorf("%s%s %v: %d %q, want %d %q", c.host, c.path, c.headers, a.StatusCode, a.body, c.status, c.want)
		}
	}
}

func TestAccess(t *testing.T) {
	t.Parallel()
	w := newWorld(t, http.HandlerFunc(mirror))
	host, path := "3000-"+string(box)+".box.test", "/v1/sandboxes/"+string(box)+"/ports/3000/"
	basic := base64.StdEncoding.EncodeToString([]byte("x:" + w.token))
	for _, c := range []struct {
		name, host, path string
		header           string
		ok               bool
	}{
		{"nothing", host, "/", "", false},
		{"a wrong token", host, "/", "X-Wrenn-Traffic-Token: trf_00", false},
		{"an empty token", host, "/", "X-Wrenn-Traffic-Token: ", false},
		{"the token", host, "/", "X-Wrenn-Traffic-Token: " + w.token, true},
		{"the token of E2B", host, "/", "E2B-Traffic-Access-Token: " + w.token, true},
		{"the token of a proxy", host, "/", "Proxy-Authorization: Basic " + basic, true},
		{"the cookie", host, "/", "Cookie: a=b; wrenn_traffic_token=" + w.token, true},
		{"a wrong cookie", host, "/", "Cookie: wrenn_traffic_token=x", false},
		{"the query", host, "/?wrenn_traffic_token=" + w.token, "", true},
		{"a wrong query", host, "/?wrenn_traffic_token=x", "", false},
		{"a key by host", host, "/", "X-Api-Key: " + apiKey, false},
		{"nothing by path", "api.test", path, "", false},
		{"a key by path", "api.test", path, "X-Api-Key: " + apiKey, true},
		{"a bearer key by path", "api.test", path, "Authorization: Bearer " + apiKey, true},
		{"a wrong key by path", "api.test", path, "X-Api-Key: wrn_1", false},
		{"a public port", "8000-" + string(box) + ".box.test", "/", "", true},
	} {
		var headers []string
		if c.header != "" {
			headers = append(headers, c.header)
		}
		status := http.StatusForbidden
		if c.ok {
			status = http.StatusOK
		}
		if a := w.do(w.request("GET", c.host, c.path, nil, headers...)); a.StatusCode != status {
			t.Errorf("%s: %d %s, want %d", c.name, a.StatusCode, a.body, status)
		}
	}
	// A page of another origin cannot use the cookie of its user.
	foreign := w.do(w.request("POST", host, "/", nil, "Cookie: wrenn_traffic_token="+w.token, "Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: cors"))
	w.want(foreign, http.StatusForbidden, "traffic_token_required")
	// A sandbox without a token is not one with an empty token.
	w.fake.set(func(row *control.Sandbox) { row.Spec.TrafficKey = "" })
	w.want(w.do(w.request("GET", host, "/?wrenn_traffic_token=", nil, "X-Wrenn-Traffic-Token: ")), http.StatusForbidden)
}

// TestEnvdPort: the guest's public server checks its own token, and nobody without it
// resumes a sandbox.
func TestEnvdPort(t *testing.T) {
	t.Parallel()
	w := newWorld(t, http.HandlerFunc(mirror))
	w.fake.set(func(row *control.Sandbox) {
		row.Spec.AutoResume, row.Spec.PublicTraffic, row.Spec.RequestHost = true, true, "masked"
	})
	w.fake.programs[49983] = w.fake.programs[3000]
	token := w.fake.row.Spec.EnvdTokenOf(box)
	host := "49983-" + string(box) + ".box.test"
	preflight := []string{"Origin: https://page.test", "Access-Control-Request-Method: POST"}
	for _, c := range []struct {
		name    string
		state   sandbox.State
		method  string
		headers []string
		status  int
		dials   int
	}{
		{"running", sandbox.Running, "GET", nil, http.StatusOK, 1},
		{"running, preflight", sandbox.Running, "OPTIONS", preflight, http.StatusNoContent, 0},
		{"paused", sandbox.Paused, "GET", nil, http.StatusForbidden, 0},
		{"paused, a wrong token", sandbox.Paused, "GET", []string{"X-Access-Token: envd_00"}, http.StatusForbidden, 0},
		{"paused, the token", sandbox.Paused, "GET", []string{"X-Access-Token: " + token}, http.StatusOK, 1},
		{"paused, preflight", sandbox.Paused, "OPTIONS", preflight, http.StatusNoContent, 0},
	} {
		w.fake.set(func(row *control.Sandbox) { row.State = c.state; w.fake.dials = 0 })
		a := w.do(w.request(c.method, host, "/", nil, c.headers...))
		if a.StatusCode != c.status || w.fake.dials != c.dials {
			t.Errorf("%s: got %d after %d dials, want %d after %d: %s", c.name, a.StatusCode, w.fake.dials, c.status, c.dials, a.body)
		}
		if a.Header.Get("Access-Control-Allow-Origin") != "*" && c.status != http.StatusOK {
			t.Errorf("%s: scripts of pages cannot read the answer: %v", c.name, a.Header)
		}
		if a.StatusCode == http.StatusOK && strings.Contains(a.body, "masked") {
			t.Errorf("%s: the server gets another host: %s", c.name, a.body)
		}
	}
	w.fake.set(func(row *control.Sandbox) { row.Spec.TrafficKey = "" })
	w.want(w.do(w.request("GET", host, "/", nil, "X-Access-Token: ")), http.StatusForbidden)
}

// TestPublicTraffic: every port of a sandbox with public traffic is public.
func TestPublicTraffic(t *testing.T) {
	t.Parallel()
	w := newWorld(t, http.HandlerFunc(mirror))
	host := "3000-" + string(box) + ".box.test"
	w.want(w.do(w.request("GET", host, "/", nil)), http.StatusForbidden)
	w.want(w.do(w.request("OPTIONS", host, "/", nil)), http.StatusForbidden)
	w.fake.set(func(row *control.Sandbox) { row.Spec.PublicTraffic = true })
	w.want(w.do(w.request("GET", host, "/", nil)), http.StatusOK)
}

// TestRequestHost: programs get the host name of the spec, and find that of the client
// beside it.
func TestRequestHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, http.HandlerFunc(mirror))
	w.fake.set(func(row *control.Sandbox) { row.Spec.RequestHost = "localhost:${PORT}" })
	w.want(w.get("/"), http.StatusOK, "GET / localhost:3000\n", "X-Forwarded-Host: 3000-"+string(box)+".box.test")
}

// TestProgramThatStartsLate: a request to the address of a port waits a moment for a program
// to listen, and one below the address of the API does not.
func TestProgramThatStartsLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, http.HandlerFunc(mirror))
	w.fake.lateAfter = 2
	w.want(w.get("/"), http.StatusOK, "GET /")
	w.fake.set(func(*control.Sandbox) { w.fake.dials = 0 })
	path := "/v1/sandboxes/" + string(box) + "/ports/3000/"
	w.want(w.do(w.request("GET", "api.test", path, nil, "X-Api-Key: "+apiKey)), http.StatusBadGateway, "port_refused")
	w.fake.set(func(*control.Sandbox) { w.fake.dials, w.fake.lateAfter = 0, 100 })
	w.want(w.get("/"), http.StatusBadGateway, "port is not open")
	if w.fake.dials != 5 {
		t.Errorf("%d attempts to connect, want 5", w.fake.dials)
	}
}

// TestRefusalInTheFormOfE2B: a request with the headers of E2B's clients gets the body of
// E2B's proxy and nothing else.
func TestRefusalInTheFormOfE2B(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	headers := []string{"E2b-Sandbox-Id: " + string(box), "E2b-Sandbox-Port: 49983"}
	a := w.do(w.request("GET", "api.test", "/health", nil, headers...))
	if want := `{"sandboxId":"` + string(box) + `","message":"The sandbox is running but port is not open","port":49983,"code":502}` + "\n"; a.body != want || a.StatusCode != http.StatusBadGateway {
		t.Errorf("a port without a program: got %d %s, want %s", a.StatusCode, a.body, want)
	}
	w.fake.set(func(row *control.Sandbox) { row.State = sandbox.Paused })
	a = w.do(w.request("GET", "api.test", "/health", nil, headers...))
	if want := `{"sandboxId":"` + string(box) + `","message":"The sandbox was not found","code":502}` + "\n"; a.body != want || a.StatusCode != http.StatusBadGateway {
		t.Errorf("a paused sandbox: got %d %s, want %s", a.StatusCode, a.body, want)
	}
	if a.Header.Get("Wrenn-Error-Reason") != control.ReasonNotRunning {
		t.Errorf("the reason is not told: %v", a.Header)
	}
}

// TestLink: a browser that opens a link with the token keeps it as a cookie.
func TestLink(t *testing.T) {
	t.Parallel()
	w := newWorld(t, http.HandlerFunc(mirror))
	host := "3000-" + string(box) + ".box.test"
	a := w.do(w.request("GET", host, "//evil.test/?a=1&wrenn_traffic_token="+w.token+"&b=2", nil, "Accept: text/html"))
	w.want(a, http.StatusFound)
	if to := a.Header.Get("Location"); to != "/evil.test/?a=1&b=2" {
		t.Errorf("the link leads to %q, want the same page without the token", to)
	}
	cookies := a.Cookies()
	if len(cookies) != 1 || !cookies[0].HttpOnly || cookies[0].Domain != "" {
		t.Fatalf("the cookies are %v", cookies)
	}
	got := w.do(w.request("GET", host, "/", nil, "Cookie: "+cookies[0].Name+"="+cookies[0].Value))
	w.want(got, http.StatusOK, "GET /")
}

func TestCredentialsStayHere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, http.HandlerFunc(mirror))
	a := w.do(w.request("GET", "api.test", "/v1/sandboxes/"+string(box)+"/ports/3000/x?wrenn_traffic_token="+w.token+"&q=1", nil,
		"X-Wrenn-Traffic-Token: "+w.token, "E2B-Traffic-Access-Token: "+w.token, "X-Api-Key: "+apiKey, "Authorization: Bearer "+apiKey,
		"Proxy-Authorization: Bearer "+w.token, "Cookie: wrenn_traffic_token="+w.token+"; theme=dark", "Cookie: wrenn_traffic_token="+w.token))
	w.want(a, http.StatusOK, "GET /x?q=1 ", "Cookie: theme=dark")
	for _, secret := range []string{w.token, apiKey} {
		if strings.Contains(a.body, secret) {
			t.Errorf("the program gets the credential %s:\n%s", secret, a.body)
		}
	}
	// The program's own credentials pass.
	own := w.get("/", "Authorization: Bearer its-own", "X-Api-Key: its-own", "Cookie: session=1")
	w.want(own, http.StatusOK, "Authorization: Bearer its-own", "X-Api-Key: its-own", "Cookie: session=1")
}

func TestForwardedHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, http.HandlerFunc(mirror))
	a := w.get("/", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Host: evil", "Forwarded: for=6.6.6.6", "Connection: X-Hop", "X-Hop: 1", "X-Kept: 1")
	w.want(a, http.StatusOK, "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: 3000-"+string(box)+".box.test", "X-Forwarded-Proto: http", "X-Kept: 1")
	for _, bad := range []string{"6.6.6.6", "evil", "X-Hop"} {
		if strings.Contains(a.body, bad) {
			t.Errorf("the program gets %s:\n%s", bad, a.body)
		}
	}
	byPath := w.do(w.request("GET", "api.test", "/v1/sandboxes/"+string(box)+"/ports/3000/", nil, "X-Api-Key: "+apiKey))
	w.want(byPath, http.StatusOK, "X-Forwarded-Prefix: /v1/sandboxes/"+string(box)+"/ports/3000\r\n")
}

// TestRefusals compares the answers with those that clients look for.
func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for _, c := range []struct {
		name    string
		state   sandbox.State
		resume  bool
		dialErr error
		status  int
		message string
		code    string
	}{
		{"nothing listens", sandbox.Running, false, nil, 502, "The sandbox is running but port is not open", "port_refused"},
		{"ended", sandbox.Stopped, false, nil, 502, "The sandbox was not found", "sandbox_ended"},
		{"ending", sandbox.Stopping, true, nil, 502, "The sandbox was not found", "sandbox_ended"},
		{"paused", sandbox.Paused, false, nil, 502, "The sandbox was not found", "sandbox_not_running"},
		{"paused with auto_resume", sandbox.Paused, true, nil, 502, "The sandbox is running but port is not open", "port_refused"},
		{"pausing", sandbox.Pausing, false, nil, 409, "The sandbox is still transitioning. Try again in a moment.", "sandbox_in_transition"},
		{"it ended just now", sandbox.Running, false, fault.New(fault.WrongState, control.ReasonEnded, "ended"), 502, "The sandbox was not found", "sandbox_ended"},
		{"the host is down", sandbox.Running, false, fault.New(fault.HostFailed, "host_unreachable", "the host agent cannot be reached"), 502, "the host agent cannot be reached", "host_unreachable"},
		{"too many", sandbox.Running, false, fault.New(fault.Quota, "too_many_connections", "many"), 429, "many", "too_many_connections"},
	} {
		w.fake.set(func(row *control.Sandbox) {
			row.State, row.Spec.AutoResume, w.fake.dialErr = c.state, c.resume, c.dialErr
		})
		a := w.get("/")
		var got struct {
			SandboxID, Message string
			Port, Code         int
			ConnectionLimit    int
			Error              struct{ Code, Message string }
		}
		if err := json.Unmarshal([]byte(a.body), &got); err != nil {
			t.Errorf("%s: %v in %q", c.name, err, a.body)
			continue
		}
		if a.StatusCode != c.status || got.Code != c.status || got.Message != c.message || got.Error.Code != c.code || got.SandboxID != string(box) {
			t.Errorf("%s: %d %s, want %d %q %s", c.name, a.StatusCode, a.body, c.status, c.message, c.code)
		}
		if open := got.Port == 3000; open != (c.code == "port_refused") {
			t.Errorf("%s: port %d", c.name, got.Port)
		}
		if limit := got.ConnectionLimit == traffic.DefaultMaxConnections; limit != (c.status == 429) {
			t.Errorf("%s: connectionLimit %d", c.name, got.ConnectionLimit)
		}
	}
	missing := w.do(w.request("GET", "3000-nosuchsandbox.box.test", "/", nil))
	w.want(missing, 502, `{"sandboxId":"nosuchsandbox","message":"The sandbox was not found","code":502,"error":{"code":"sandbox_not_found"`)
}

func TestConnectionsAreLimited(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	began := make(chan struct{}, 2)
	w := newWorld(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		began <- struct{}{}
		<-release
	}), func(c *traffic.Config, _ *httptest.Server) { c.MaxConnections = 2 })
	done := make(chan answer, 2)
	for range 2 {
		go func() { done <- w.get("/") }()
	}
	<-began
	<-began
	a := w.want(w.get("/"), http.StatusTooManyRequests, `"connectionLimit":2`)
	if a.Header.Get("Retry-After") == "" {
		t.Error("429 without Retry-After")
	}
	close(release)
	w.want(<-done, http.StatusOK)
	w.want(<-done, http.StatusOK)
	w.want(w.get("/"), http.StatusOK)
}

// TestSharedOriginIsProtected: a program reached on the API's own origin does not act
// for that origin.
func TestSharedOriginIsProtected(t *testing.T) {
	t.Parallel()
	w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Set-Cookie", "Clear-Site-Data", "Service-Worker-Allowed", "Strict-Transport-Security", "Nel", "Report-To", "Alt-Svc"} {
			w.Header().Set(name, "x")
		}
		w.Header().Set("Content-Security-Policy", "default-src 'self'")
		w.Header().Set("Location", r.URL.Query().Get("to"))
		w.WriteHeader(http.StatusFound)
		_, _ = io.WriteString(w, "<script>")
	}))
	prefix := "/v1/sandboxes/" + string(box) + "/ports/3000"
	for to, want := range map[string]string{"/next": prefix + "/next", "next": "next", "//other.test/": "//other.test/", "http://x/": "http://x/"} {
		a := w.do(w.request("GET", "api.test", prefix+"/?to="+to, nil, "X-Api-Key: "+apiKey))
		if got := a.Header.Get("Location"); got != want {
			t.Errorf("Location %q became %q, want %q", to, got, want)
		}
		for _, name := range []string{"Set-Cookie", "Clear-Site-Data", "Service-Worker-Allowed", "Strict-Transport-Security", "Nel", "Report-To", "Alt-Svc"} {
			if a.Header.Get(name) != "" {
				t.Errorf("the header %s of a program reaches the origin of the API", name)
			}
		}
		policies := strings.Join(a.Header.Values("Content-Security-Policy"), ", ")
		if !strings.Contains(policies, "sandbox allow-") || strings.Contains(policies, "allow-same-origin") || !strings.Contains(policies, "default-src 'self'") {
			t.Errorf("the policies are %q, want the program's and a sandbox", policies)
		}
	}
	a := w.get("/?to=/next")
	if a.Header.Get("Set-Cookie") != "x" || len(a.Header.Values("Content-Security-Policy")) != 1 || a.Header.Get("Location") != "/next" || a.Header.Get("Alt-Svc") != "" {
		t.Errorf("on its own origin the program's headers are %v, want them unchanged but Alt-Svc", a.Header)
	}
}

func TestParseAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in     string
		secure bool
		port   string
		want   string
	}{
		{"localhost", false, "8080", "http://{port}-id.localhost:8080"},
		{"localhost", false, "80", "http://{port}-id.localhost"},
		{"Box.Example.", true, "443", "https://{port}-id.box.example"},
		{"box.example:8443", true, "443", "https://{port}-id.box.example:8443"},
		{"https://box.example", false, "8080", "https://{port}-id.box.example"},
		{"http://box.example:81", true, "8080", "http://{port}-id.box.example:81"},
	} {
		a, err := traffic.ParseAddress(c.in, c.secure, c.port)
		if err != nil || a.PortURL("id") != c.want {
			t.Errorf("%s: %s, %v; want %s", c.in, a.PortURL("id"), err, c.want)
		}
	}
	for _, bad := range []string{"", "a b", "-x", "ftp://x", "x/y", "*.x", "x..y", strings.Repeat("a.", 120) + "a"} {
		if _, err := traffic.ParseAddress(bad, false, "80"); fault.ReasonOf(err) != "invalid_domain" {
			t.Errorf("%q: %v, want invalid_domain", bad, err)
		}
	}
}
