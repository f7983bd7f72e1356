package e2e

import (
	"bytes"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/client"
)

// testGuest checks the environment that programs for an ordinary machine expect
// in a sandbox.
func testGuest(t *testing.T, s *server) {
	sb := create(t, s.Client, small)
	for _, c := range []struct{ name, script, want string }{
		{"limits of open files", `ulimit -Sn; ulimit -Hn`, "65536\n1048576"},
		{"localhost over IPv6", `python3 -c '
import socket
s = socket.create_server(("::1", 0), family=socket.AF_INET6)
socket.create_connection(("::1", s.getsockname()[1])).close()
print("connected")'`, "connected"},
		{"localhost of an asyncio server", `python3 -c '
import asyncio
async def main():
    server = await asyncio.start_server(lambda r, w: None, "localhost", 0)
    print(sorted({s.getsockname()[0] for s in server.sockets}))
asyncio.run(main())'`, "['127.0.0.1', '::1']"},
		{"no IPv6 beyond the loopback", `ip -6 -o address show | grep -v ' lo ' | wc -l`, "0"},
		{"a virtual environment", `python3 -m venv --without-pip /tmp/venv && /tmp/venv/bin/python -c 'import sys; print(sys.prefix)'; python3 -c 'import ensurepip; print("pip")'`,
			"/tmp/venv\npip"},
		{"a user who may become root", `su user -c 'id -un; sudo -n id -un'`, "user\nroot"},
	} {
		if got := sh(t, s.Client, sb.ID, c.script); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	testUploadOwner(t, s, sb.ID)
}

// testUploadOwner uploads over files of other users, and to paths where no file
// can be.
func testUploadOwner(t *testing.T, s *server, id string) {
	upload := func(u client.Upload) error { return s.WriteFile(t.Context(), id, u, strings.NewReader("new")) }
	sh(t, s.Client, id, `printf old > /home/user/mine; chown user:user /home/user/mine; chmod 0640 /home/user/mine`)
	check(t, upload(client.Upload{Path: "/home/user/mine"}))
	if got := sh(t, s.Client, id, `stat -c '%U:%G %a' /home/user/mine; cat /home/user/mine`); got != "user:user 640\nnew" {
		t.Errorf("after an upload over a file of user: %q", got)
	}
	check(t, upload(client.Upload{Path: "/home/user/mine", User: "root"}))
	if got := sh(t, s.Client, id, `stat -c '%U:%G %a' /home/user/mine`); got != "root:root 640" {
		t.Errorf("after an upload for root: %q", got)
	}
	for _, path := range []string{"/root/", "/root/new/", "/proc/x", "/proc/sys/kernel/hostname", "/sys/x", "/sys/kernel/new/x"} {
		a := call(t, s.Client, "PUT", "/v1/sandboxes/"+id+"/files?path="+path, bytes.NewReader([]byte("x")))
		a.wantError(t, 400, "invalid_path")
	}
	if got := sh(t, s.Client, id, `ls -A /root | grep -c new; hostname`); !strings.HasPrefix(got, "0\nwrenn-") {
		t.Errorf("refused uploads left something: %q", got)
	}
}
