package e2b

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestConnect: a connect never shortens a sandbox's time, keeps that of the create when
// it gives none, and waits for a resume of another caller.
func TestConnect(t *testing.T) {
	for _, path := range []string{"/sandboxes/box/connect", "/v2/sandboxes/box/connect", "/sandboxes/box-legacy/connect"} {
		box(sandbox.Running).send(t, "POST", path, "", 200, "")
		box(sandbox.Running).send(t, "POST", path, `{"timeout":60}`, 200, "")
		box(sandbox.Running).send(t, "POST", path, `{"timeout":600}`, 200, "lifetime 10m0s")
		box(sandbox.Paused).send(t, "POST", path, "null", 201, "lifetime 10m0s, resume")
		box(sandbox.Paused).send(t, "POST", path, `{"timeout":30}`, 201, "resume")
		box(sandbox.Paused).send(t, "POST", path, `{"timeout":90}`, 201, "lifetime 1m30s, resume")
		box(sandbox.Paused).send(t, "POST", path, `{"timeout":-1}`, 400, "")
		box(sandbox.Paused).send(t, "POST", path, `{"memory":false}`, 201, "lifetime 10m0s, reboot")
		box(sandbox.Stopping).send(t, "POST", path, "{}", 404, "")
		box(sandbox.Stopped).send(t, "POST", path, "{}", 404, "")
	}
	endless := box(sandbox.Paused)
	endless.row.Spec.Lifetime, endless.row.Spec.InitialLifetime, endless.row.LifetimeEndsAt = 0, 0, nil
	endless.send(t, "POST", "/sandboxes/box/connect", `{"timeout":300}`, 201, "resume")
	waits := box(sandbox.Resuming)
	waits.later = sandbox.Running
	waits.send(t, "POST", "/sandboxes/box/connect", "{}", 200, "")
	ends := box(sandbox.Pausing)
	ends.later = sandbox.Stopped
	ends.send(t, "POST", "/sandboxes/box/connect", "{}", 404, "")
	lost := box(sandbox.Paused)
	lost.row.Spec.Lifetime = lost.row.Spec.InitialLifetime
	lost.resume = func(f *fake) error {
		f.row.State = sandbox.Running // another caller was faster
		return fault.New(fault.WrongState, "sandbox_not_paused", "it runs")
	}
	lost.send(t, "POST", "/sandboxes/box/connect", "{}", 200, "resume")
}

// TestConnectToASilentGuest: clients look for the word of a guest that did not answer
// when it was paused, and for no other failure.
func TestConnectToASilentGuest(t *testing.T) {
	for _, c := range []struct {
		forced bool
		err    error
		calls  string
		status int
		word   any
	}{
		{true, nil, "", 409, wordUnresponsive},
		{false, fault.New(fault.HostFailed, "guest_unresponsive", "no answer"), "resume", 500, wordCreateFailed},
		{false, fault.New(fault.NoCapacity, "no_capacity", "full"), "resume", 503, wordNoCapacity},
	} {
		f := box(sandbox.Paused)
		f.row.Health.Forced = c.forced
		f.resume = func(*fake) error { return c.err }
		out := f.send(t, "POST", "/sandboxes/box/connect", `{"timeout":30}`, c.status, c.calls)
		if out["error_code"] != c.word || out["code"] != float64(c.status) {
			t.Errorf("forced %t, %v: answer %v, want %v", c.forced, c.err, out, c.word)
		}
	}
	reboots := box(sandbox.Paused)
	reboots.row.Health.Forced = true
	reboots.send(t, "POST", "/sandboxes/box/connect", `{"timeout":30,"memory":false}`, 201, "reboot")
}

// TestPauseMode: details say whether a pause has memory, and a list does not.
func TestPauseMode(t *testing.T) {
	for _, c := range []struct {
		state    sandbox.State
		diskOnly bool
		want     any
	}{
		{sandbox.Paused, false, "full"}, {sandbox.Paused, true, "filesystem"}, {sandbox.Pausing, false, nil}, {sandbox.Running, false, nil},
	} {
		f := box(c.state)
		f.row.DiskOnly = c.diskOnly
		if got := f.send(t, "GET", "/sandboxes/box", "", 200, "")["pauseMode"]; got != c.want {
			t.Errorf("%s, disk only %t: pauseMode %v, want %v", c.state, c.diskOnly, got, c.want)
		}
	}
}

// TestPause: a guest that does not answer is paused all the same, unless the client
// requires that it answers.
func TestPause(t *testing.T) {
	const path = "/sandboxes/box/pause"
	box(sandbox.Running).send(t, "POST", path, `{"memory":true}`, 204, "pause")
	box(sandbox.Running).send(t, "POST", path, `{"memory":false}`, 204, "pause disk")
	silent := box(sandbox.Running)
	silent.pause = fault.New(fault.Unavailable, "guest_unresponsive", "no answer")
	silent.send(t, "POST", path, "", 204, "pause, force pause")
	files := box(sandbox.Running)
	files.pause = silent.pause
	files.send(t, "POST", path, `{"memory":false}`, 503, "pause disk")
	strict := box(sandbox.Running)
	strict.pause = silent.pause
	strict.send(t, "POST", path, `{"requireHealthyGuest":true}`, 503, "pause")
	paused := box(sandbox.Paused)
	paused.pause = fault.New(fault.WrongState, "sandbox_not_running", "it is paused")
	paused.send(t, "POST", path, "{}", 409, "pause")
}

// TestSnapshotOfFiles: memory is kept unless the client leaves it out, and a host that could
// not leave it out is refused with the word that clients know.
func TestSnapshotOfFiles(t *testing.T) {
	const path = "/sandboxes/box/snapshots"
	box(sandbox.Running).send(t, "POST", path, `{}`, 201, `snapshot "", disk only false, force false`)
	box(sandbox.Running).send(t, "POST", path, `{"memory":true,"name":"n"}`, 201, `snapshot "n", disk only false, force false`)
	out := box(sandbox.Running).send(t, "POST", path, `{"memory":false,"name":"n"}`, 201, `snapshot "n", disk only true, force false`)
	if out["snapshotID"] != "snap" {
		t.Errorf("the answer is %v, want the id snap", out)
	}
	box(sandbox.Running).send(t, "POST", path, `{"memory":"no"}`, 400, "")
	for reason, c := range map[string]struct {
		kind   fault.Kind
		status int
		word   any
	}{
		"disk_pause_unsupported": {fault.Unsupported, 409, "snapshot_filesystem_only_unsupported_node"},
		"paused_with_memory":     {fault.WrongState, 409, nil},
		"guest_unresponsive":     {fault.Unavailable, 503, nil},
	} {
		f := box(sandbox.Running)
		f.snapshot = fault.New(c.kind, reason, "no")
		out := f.send(t, "POST", path, `{"memory":false}`, c.status, `snapshot "", disk only true, force false`)
		if out["error_code"] != c.word || out["code"] != float64(c.status) {
			t.Errorf("%s: answer %v, want %v", reason, out, c.word)
		}
	}
}

func TestSetTimeout(t *testing.T) {
	const path = "/sandboxes/box/timeout"
	box(sandbox.Running).send(t, "POST", path, `{"timeout":7}`, 204, "lifetime 7s")
	box(sandbox.Running).send(t, "POST", path, `{"timeout":0}`, 204, "destroy")
	box(sandbox.Running).send(t, "POST", path, `{}`, 400, "")
	box(sandbox.Running).send(t, "POST", path, `{"timeout":2592001}`, 400, "")
	box(sandbox.Running).send(t, "POST", path, `{"timeout":1.5}`, 400, "")
	box(sandbox.Paused).send(t, "POST", path, `{"timeout":7}`, 409, "")
	pauses := box(sandbox.Running)
	pauses.row.Spec.OnTimeout = sandbox.TimeoutPause
	pauses.send(t, "POST", path, `{"timeout":-5}`, 204, "pause")
	pauses = box(sandbox.Running)
	pauses.row.Spec.OnTimeout, pauses.row.Spec.PauseDiskOnly = sandbox.TimeoutPause, true
	pauses.send(t, "POST", path, `{"timeout":-5}`, 204, "pause disk")
	box(sandbox.Running).send(t, "POST", "/sandboxes/box/refreshes", `{"duration":3600}`, 204, "lifetime 1h0m0s")
	box(sandbox.Running).send(t, "POST", "/sandboxes/box/refreshes", "", 204, "")
	box(sandbox.Running).send(t, "POST", "/sandboxes/box/refreshes", `{"duration":3601}`, 400, "")
}

func TestDetail(t *testing.T) {
	f := box(sandbox.Paused)
	out := f.send(t, "GET", "/sandboxes/box", "", 200, "")
	if out["state"] != "paused" || out["pauseMode"] != "full" || out["envdAccessToken"] != f.row.Spec.EnvdTokenOf("box") ||
		out["templateID"] != "base" || out["envdVersion"] != "0.6.13" || out["clientID"] == "" {
		t.Errorf("a paused sandbox shows as %v", out)
	}
	// A sandbox of our own API without a lifetime has an end all the same.
	f = box(sandbox.Running)
	f.row.Spec.Lifetime, f.row.LifetimeEndsAt = 0, nil
	end, err := time.Parse(time.RFC3339Nano, f.send(t, "GET", "/sandboxes/box", "", 200, "")["endAt"].(string))
	if err != nil || time.Until(end) < 24*time.Hour {
		t.Errorf("a sandbox without a lifetime ends at %v (%v)", end, err)
	}
}

// TestEndedSandboxesTellWhy: the answer is that of an unknown sandbox, with the reason.
func TestEndedSandboxesTellWhy(t *testing.T) {
	f := box(sandbox.Stopped)
	f.row.StopReason, f.row.Message = sandbox.ReasonOOM, "the host's kernel ended it"
	out := f.send(t, "GET", "/sandboxes/box", "", 404, "")
	const want = `Sandbox "box" doesn't exist or you don't have access to it: it has ended, reason oom (the host's kernel ended it)`
	if out["message"] != want {
		t.Errorf("got %v, want %s", out["message"], want)
	}
}

// TestForkShowsFailures: each copy has an element, with a sandbox or an error.
func TestForkShowsFailures(t *testing.T) {
	f := box(sandbox.Running)
	f.fork = control.Forked{
		Sandboxes: []control.Sandbox{f.row},
		Failed:    []control.FailedFork{{ID: "x", Err: fault.New(fault.NoCapacity, "no_capacity", "full")}},
	}
	h := New(Config{Sandboxes: f, Next: http.NotFoundHandler(), Log: quiet(), Enter: anyone})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/sandboxes/box/fork", strings.NewReader(`{"count":2}`)))
	var out []forkResult
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != http.StatusCreated || len(out) != 2 {
		t.Fatalf("%d %s (%v)", w.Code, w.Body, err)
	}
	if out[0].Sandbox == nil || out[0].Error != nil || out[1].Sandbox != nil || out[1].Error == nil || out[1].Error.Code != 503 {
		t.Errorf("got %s, want a sandbox and an error", w.Body)
	}
	box(sandbox.Running).send(t, "POST", "/sandboxes/box/fork", `{"count":101}`, 400, "")
	box(sandbox.Paused).send(t, "POST", "/sandboxes/box/fork", `{}`, 409, "")
}

func TestSamplesAreBounded(t *testing.T) {
	var s samples
	for i := range int64(3 * keptSamples) {
		s.keep("a", metricJSON{TimestampUnix: i})
	}
	if got := s.between("a", 0, 1<<40); len(got) != keptSamples || got[0].TimestampUnix != 2*keptSamples {
		t.Errorf("%d samples are kept, the first of %v", len(got), got[0].TimestampUnix)
	}
	if got := s.between("a", 2*keptSamples+1, 2*keptSamples+2); len(got) != 2 {
		t.Errorf("a range of two seconds holds %d samples", len(got))
	}
	for i := range 2 * maxKept {
		s.keep(sandbox.ID(strings.Repeat("b", 1+i%7)+time.Duration(i).String()), metricJSON{})
	}
	if len(s.of) > maxKept {
		t.Errorf("samples of %d sandboxes are kept", len(s.of))
	}
}
