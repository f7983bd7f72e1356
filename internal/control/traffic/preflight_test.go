package traffic_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// question has the headers of a browser's preflight request.
var question = []string{"Origin: https://page.test", "Access-Control-Request-Method: GET"}

// TestPreflightReachesNoProgram: a preflight request has no credentials, so that a private
// port refuses it. The server answers one to port 49983 itself. Neither connects to the
// guest, in any form of address.
func TestPreflightReachesNoProgram(t *testing.T) {
	t.Parallel()
	w := newWorld(t, http.HandlerFunc(mirror))
	w.fake.programs[49983] = w.fake.programs[3000]
	for _, state := range []sandbox.State{sandbox.Running, sandbox.Paused} {
		w.fake.set(func(row *control.Sandbox) { row.State, row.Spec.AutoResume = state, true })
		for port, status := range map[string]int{"3000": http.StatusForbidden, "49983": http.StatusNoContent} {
			for _, r := range []*http.Request{
				w.request("OPTIONS", w.port(port), "/admin?delete=1", nil, question...),
				w.request("OPTIONS", "api.test", "/v1/sandboxes/"+string(box)+"/ports/"+port+"/admin", nil, question...),
				w.request("OPTIONS", "api.test", "/admin", nil, append(question, "E2b-Sandbox-Id: "+string(box), "E2b-Sandbox-Port: "+port)...),
			} {
				a := w.do(r)
				if a.StatusCode != status || strings.Contains(a.body, "admin") {
					t.Errorf("%s, %s %s: got %d %q, want %d", state, r.Host, r.URL, a.StatusCode, a.body, status)
				}
			}
		}
	}
	if w.fake.dials != 0 {
		t.Errorf("preflight requests made %d connections to the guest, want none", w.fake.dials)
	}
	// The program of a public port answers its own.
	w.fake.set(func(row *control.Sandbox) { row.State = sandbox.Running })
	w.want(w.do(w.request("OPTIONS", w.port("8000"), "/", nil, question...)), http.StatusOK, "OPTIONS /")
}

// TestPreflightOpensNoConnection: the headers of a preflight request are no credential for
// a raw connection or a WebSocket to a private port.
func TestPreflightOpensNoConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, http.HandlerFunc(shout))
	headers := "\n" + strings.Join(question, "\n")
	path := "/v1/sandboxes/" + string(box) + "/ports/3000/"
	var heads []string
	for _, protocol := range []string{"tcp", "TCP", "websocket"} {
		upgrade := headers + "\nConnection: Upgrade\nUpgrade: " + protocol
		heads = append(heads,
			"OPTIONS / HTTP/1.1\nHost: "+w.port(boxPort)+upgrade,
			"OPTIONS "+path+" HTTP/1.1\nHost: x.test"+upgrade,
			"OPTIONS / HTTP/1.1\nHost: x.test\nE2b-Sandbox-Id: "+string(box)+"\nE2b-Sandbox-Port: 3000"+upgrade,
			// The name of the host decides, not the headers.
			"OPTIONS / HTTP/1.1\nHost: "+w.port(boxPort)+"\nE2b-Sandbox-Id: "+string(box)+"\nE2b-Sandbox-Port: 49983"+upgrade,
			"GET / HTTP/1.1\nHost: "+w.port(boxPort)+upgrade,
			"HEAD / HTTP/1.1\nHost: "+w.port(boxPort)+upgrade,
		)
	}
	heads = append(heads,
		"CONNECT "+w.port(boxPort)+":3000 HTTP/1.1\nHost: "+w.port(boxPort)+headers,
		"CONNECT x.test:80 HTTP/1.1\nHost: "+w.port("49983")+"\nE2b-Sandbox-Id: "+string(box)+"\nE2b-Sandbox-Port: 3000"+headers,
	)
	for _, head := range heads {
		if _, _, res := w.upgrade(head); res.StatusCode != http.StatusForbidden {
			t.Errorf("%s:\ngot %d, want 403", head, res.StatusCode)
		}
	}
	if w.fake.dials != 0 {
		t.Errorf("requests without a token made %d connections to the guest, want none", w.fake.dials)
	}
}
