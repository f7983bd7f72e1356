package host_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestGuestEgressChanges: the limits of a running guest change at once, also for a
// connection that it has open, and those of a paused one with its resume.
func TestGuestEgressChanges(t *testing.T) {
	t.Parallel()
	onEachRuntime(t, guestEgressChanges)
}

// holdOpen connects to a server, and then tells for each number of seconds that is
// written to /tmp/go whether the server sends a byte back in that time.
const holdOpen = `cat >/tmp/hold.py <<'EOF'
import os, socket
s = socket.create_connection(("%s", 80), 20)
s.settimeout(20)
assert s.recv(1) == b"x"
os.mkfifo("/tmp/go")
os.mkfifo("/tmp/said")
while True:
    s.settimeout(float(open("/tmp/go").read()))
    try:
        s.send(b"y")
        said = "open" if s.recv(1) == b"y" else "closed"
    except OSError:
        said = "cut"
    open("/tmp/said", "w").write(said)
EOF
setsid python3 /tmp/hold.py >/tmp/hold.log 2>&1 </dev/null &
until test -p /tmp/said; do kill -0 $! || { cat /tmp/hold.log; break; }; sleep 0.1; done`

func guestEgressChanges(t *testing.T, r sandbox.Runtime) {
	server := hosttest.Greeter(t)
	b := unopenedBench(t, r, "wegr")
	b.open()
	t.Cleanup(b.end)
	ref := b.create()
	if out := b.sh(ref, fmt.Sprintf(holdOpen, server)); out != "" {
		t.Fatalf("the guest does not reach the server: %s", out)
	}
	expect := func(when, want string, held bool) {
		t.Helper()
		wait := "1"
		if want == "open" {
			wait = "20"
		}
		got := b.sh(ref, fmt.Sprintf(`python3 -c '
import socket
try: print("open" if socket.create_connection(("%s", 80), %s).recv(1) else "closed")
except OSError: print("cut")'`, server, wait))
		if got != want {
			t.Errorf("%s: a new connection is %q, want %q", when, got, want)
		}
		if !held {
			return
		}
		if got := b.sh(ref, "echo "+wait+" >/tmp/go; cat /tmp/said"); got != want {
			t.Errorf("%s: a connection that was open is %q, want %q", when, got, want)
		}
	}
	set := func(e sandbox.Egress) {
		t.Helper()
		_, err := b.SetEgress(t.Context(), ref, e)
		check(t, err)
	}
	expect("without limits", "open", true)
	set(sandbox.Egress{Deny: sandbox.DenyAll().Deny, Allow: []netip.Prefix{netip.PrefixFrom(server, 32)}})
	expect("with an exception", "open", true)
	set(sandbox.DenyAll())
	expect("denied", "cut", true)
	set(sandbox.Egress{})
	expect("lifted", "open", false)

	_, err := b.Pause(t.Context(), ref)
	check(t, err)
	set(sandbox.DenyAll())
	ref.Generation++
	_, err = b.Resume(t.Context(), ref)
	check(t, err)
	expect("denied while it was paused", "cut", false)
	set(sandbox.Egress{})
	expect("lifted after the resume", "open", false)
}
