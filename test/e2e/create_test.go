package e2e

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// testCreate checks the requests and answers of a sandbox from create to
// destroy.
func testCreate(t *testing.T, s *server) {
	a := call(t, s.Client, "POST", "/v1/sandboxes", "{}")
	sb := a.object(t, 201)
	id := sb["id"].(string)
	path := "/v1/sandboxes/" + id
	if a.header.Get("Location") != path {
		t.Errorf("Location is %q", a.header.Get("Location"))
	}
	if !regexp.MustCompile(`^[a-z0-9]{16,48}$`).MatchString(id) { // 16 of 36 letters: 82 bits
		t.Errorf("the id is %q", id)
	}
	for field, want := range map[string]any{
		"status": "running", "template": "minimal", "vcpus": 1.0, "memory_mb": 512.0, "disk_mb": 2048.0,
		"timeout_sec": 300.0, "stop_reason": nil, "ended_at": nil, "message": nil, "host_id": "local",
	} {
		if sb[field] != want {
			t.Errorf("%s is %v, want %v", field, sb[field], want)
		}
	}
	for _, field := range []string{"guest_ip", "host_ip", "acceleration", "isolation", "created_at", "started_at", "last_updated"} {
		if text, _ := sb[field].(string); text == "" {
			t.Errorf("%s is %v", field, sb[field])
		}
	}
	if got := call(t, s.Client, "GET", path, nil).object(t, 200); got["id"] != id || got["status"] != "running" {
		t.Errorf("get says %v", got)
	}
	if a := call(t, s.Client, "DELETE", path, nil); a.status != 204 || len(a.body) > 0 {
		t.Fatalf("delete answered %d %s", a.status, a.body)
	}
	if vmOf(s.dir, id) != 0 {
		t.Error("the VM is still there after delete has answered")
	}
	ended := call(t, s.Client, "GET", path, nil).object(t, 200)
	if ended["status"] != "stopped" || ended["stop_reason"] != "destroyed" || ended["ended_at"] == nil {
		t.Errorf("after delete it is %v", ended)
	}
	if a := call(t, s.Client, "DELETE", path, nil); a.status != 204 {
		t.Errorf("the second delete answered %d %s", a.status, a.body)
	}
	call(t, s.Client, "POST", path+"/exec", `{"cmd":"true"}`).wantError(t, 409, "sandbox_ended")
}

// testEndings checks the stop reason of sandboxes that end by themselves.
func testEndings(t *testing.T, s *server) {
	soon := 2
	idle, err := s.Create(t.Context(), client.CreateRequest{MemoryMB: 256, TimeoutSec: &soon})
	check(t, err)
	if idle.Runtime == microVM { // gVisor's guests have no way to switch themselves off
		off := create(t, s.Client, small)
		// The command may be interrupted by the end that it causes.
		_, _ = trySh(t.Context(), s.Client, off.ID, "echo o >/proc/sysrq-trigger; sleep 60")
		wantEnd(t, s, off.ID, "guest_exit")
	}
	wantEnd(t, s, idle.ID, "expired")
}

// wantEnd waits until a sandbox has ended, and checks why and that its VM is
// gone.
func wantEnd(t *testing.T, s *server, id string, reasons ...string) {
	t.Helper()
	var sb *client.Sandbox
	eventually(t, "sandbox "+id+" has ended", func() bool {
		var err error
		sb, err = s.Get(t.Context(), id)
		return err == nil && (sb.Status == client.StatusStopped || sb.Status == client.StatusError) && sb.EndedAt != nil
	})
	reason := ""
	if sb.StopReason != nil {
		reason = *sb.StopReason
	}
	if !strings.Contains(" "+strings.Join(reasons, " ")+" ", " "+reason+" ") {
		t.Errorf("sandbox %s is %s for the reason %q, want one of %q", id, sb.Status, reason, reasons)
	}
	eventually(t, "its VM is gone", func() bool { return vmOf(s.dir, id) == 0 })
}

// testList checks filters, and that the pages together have every sandbox.
func testList(t *testing.T, s *server) {
	in := small
	in.Metadata = map[string]string{"of": "testList"}
	var want []string
	for range 3 {
		want = append([]string{create(t, s.Client, in).ID}, want...) // newest first
	}
	_, err := s.Pause(t.Context(), want[1])
	check(t, err)
	for _, c := range []struct {
		opts client.ListOptions
		want []string
	}{
		{client.ListOptions{Limit: 1}, want},
		{client.ListOptions{Status: []string{"paused"}, Limit: 2}, want[1:2]},
		{client.ListOptions{Status: []string{"running", "paused"}, Template: "minimal", Limit: 2}, want},
		{client.ListOptions{Template: "other"}, nil},
	} {
		var got []string
		for sb, err := range s.All(t.Context(), c.opts) {
			check(t, err)
			if sb.Metadata["of"] == "testList" { // other tests have theirs
				got = append(got, sb.ID)
			}
		}
		if strings.Join(got, " ") != strings.Join(c.want, " ") {
			t.Errorf("%+v gives %v, want %v", c.opts, got, c.want)
		}
	}
	if a := call(t, s.Client, "GET", "/v1/sandboxes?limit=1", nil); a.header.Get("X-Next-Cursor") == "" || !strings.Contains(a.header.Get("Link"), `rel="next"`) {
		t.Errorf("a page that is not the last has the header %v", a.header)
	}
}

// testPause checks memory, processes, files and the clock after a pause and a
// resume.
func testPause(t *testing.T, s *server) {
	sb := create(t, s.Client, small)
	path := "/v1/sandboxes/" + sb.ID
	sh(t, s.Client, sb.ID, counter)
	sh(t, s.Client, sb.ID, "echo kept >/root/file")
	before := sh(t, s.Client, sb.ID, "cat /tmp/n")
	if got := call(t, s.Client, "POST", path+"/pause", nil).object(t, 200); got["status"] != "paused" {
		t.Fatalf("after pause it is %v", got)
	}
	paused := time.Now()
	if vmOf(s.dir, sb.ID) != 0 {
		t.Error("a paused sandbox has a VM process")
	}
	for at, body := range map[string]any{
		"/exec": `{"cmd":"true"}`, "/files/read": `{"path":"/root/file"}`, "/pause": nil,
	} {
		call(t, s.Client, "POST", path+at, body).wantError(t, 409, "sandbox_not_running")
	}
	upload, kind := form(t, "/root/x", []byte("x"))
	call(t, s.Client, "POST", path+"/files/write", upload, "Content-Type", kind).wantError(t, 409, "sandbox_not_running")

	if got := call(t, s.Client, "POST", path+"/resume", nil).object(t, 200); got["status"] != "running" {
		t.Fatalf("after resume it is %v", got)
	}
	call(t, s.Client, "POST", path+"/resume", nil).wantError(t, 409, "sandbox_not_paused")
	if got := sh(t, s.Client, sb.ID, "cat /root/file"); got != "kept" {
		t.Errorf("the file holds %q", got)
	}
	goesOn(t, s.Client, sb.ID, before)
	guest, err := time.Parse(time.RFC3339Nano, sh(t, s.Client, sb.ID, "date -u +%Y-%m-%dT%H:%M:%S.%NZ"))
	check(t, err)
	if guest.Before(paused) || time.Until(guest) > 2*time.Second {
		t.Errorf("the guest's clock says %v; it was paused at %v", guest, paused)
	}
}

// counter starts a process that counts in the file /tmp/n, and returns when the
// file exists.
const counter = `setsid sh -c 'n=0; while :; do n=$((n+1)); echo $n >/tmp/n.new; mv /tmp/n.new /tmp/n; sleep 0.05; done' >/dev/null 2>&1 &
until test -s /tmp/n; do sleep 0.05; done`

// goesOn checks that the counter has not restarted and continues.
func goesOn(t testing.TB, c *client.Client, id, before string) {
	t.Helper()
	sh(t, c, id, countedOn(before))
}

// countedOn returns a script that fails if the counter is below before, and
// ends when it has increased.
func countedOn(before string) string {
	return `set -e; test "$(cat /tmp/n)" -ge ` + before + `; n=$(cat /tmp/n); until test "$(cat /tmp/n)" -gt $n; do sleep 0.05; done`
}

// testServedDocuments reads the documents that are served beside the sandboxes.
func testServedDocuments(t *testing.T, s *server) {
	for path, want := range map[string]string{"/healthz": `"ok"`, "/readyz": `"ok"`, "/openapi.yaml": "openapi:", "/docs": "<html", "/v1/hosts": `"qemu"`} {
		if a := call(t, s.Client, "GET", path, nil); a.status != 200 || !strings.Contains(string(a.body), want) {
			t.Errorf("%s answers %d %.200s", path, a.status, a.body)
		}
	}
	hosts, err := s.Hosts(t.Context())
	check(t, err)
	if len(hosts) != 1 || !hosts[0].Reachable || hosts[0].ID != "local" || hosts[0].Limits.MaxVCPUs < 1 {
		t.Errorf("the hosts are %+v", hosts)
	}
	if room := hosts[0].DiskRoomMB; room == nil || *room < 1 {
		t.Errorf("disk_room_mb: got %v, want at least 1", room)
	}
}
