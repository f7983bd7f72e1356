package rest

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func TestLifeOfASnapshot(t *testing.T) {
	w := newWorld(t)
	of := string(w.fake.add(sandbox.Running))
	created := w.want(w.call("POST", "/v1/sandboxes/"+of+"/snapshots", `{"name":"ready","metadata":{"k":"v"}}`), http.StatusCreated)
	snap := decode[types.Snapshot](w, created)
	path := "/v1/snapshots/" + snap.ID
	if created.Header.Get("Location") != path || snap.SandboxID != of || snap.Name != "ready" || snap.Metadata["k"] != "v" ||
		snap.PauseWindowMS != 5 || snap.TemplateName != nil {
		t.Errorf("%+v, Location %q", snap, created.Header.Get("Location"))
	}
	if got := decode[types.Snapshot](w, w.want(w.call("GET", path, ""), http.StatusOK)); !reflect.DeepEqual(got, snap) {
		t.Errorf("%+v, want %+v", got, snap)
	}
	named := decode[types.Snapshot](w, w.want(w.call("POST", path+"/template", `{"name":"mine"}`), http.StatusOK))
	if named.TemplateName == nil || *named.TemplateName != "mine" {
		t.Errorf("%+v", named)
	}
	if got := w.want(w.call("DELETE", path, ""), http.StatusConflict).fault(w); got.Code != "snapshot_is_template" {
		t.Errorf("%+v", got)
	}
	w.want(w.call("DELETE", path+"/template", ""), http.StatusNoContent)
	sb := decode[types.Sandbox](w, w.want(w.call("POST", "/v1/sandboxes", `{"snapshot_id":"`+snap.ID+`"}`), http.StatusCreated))
	if sb.SnapshotID == nil || *sb.SnapshotID != snap.ID {
		t.Errorf("%+v", sb)
	}
	w.want(w.call("DELETE", path, ""), http.StatusNoContent)
	w.want(w.call("GET", path, ""), http.StatusNotFound)
	if !strings.Contains(w.log.String(), `"snapshot":"`+snap.ID) {
		t.Error("the log does not name the snapshot")
	}
}

// TestMemoryOfASnapshot: it is there unless the request leaves it out, and every answer
// shows it.
func TestMemoryOfASnapshot(t *testing.T) {
	w := newWorld(t)
	of := "/v1/sandboxes/" + string(w.fake.add(sandbox.Running)) + "/snapshots"
	for _, c := range []struct {
		body   string
		memory bool
	}{{"", true}, {"{}", true}, {`{"memory":true,"force":true}`, true}, {`{"memory":false}`, false}} {
		snap := decode[types.Snapshot](w, w.want(w.call("POST", of, c.body), http.StatusCreated))
		got := decode[types.Snapshot](w, w.want(w.call("GET", "/v1/snapshots/"+snap.ID, ""), http.StatusOK))
		listed := decode[[]types.Snapshot](w, w.want(w.call("GET", "/v1/snapshots?limit=1", ""), http.StatusOK))
		if snap.Memory != c.memory || got.Memory != c.memory || len(listed) != 1 || listed[0].Memory != c.memory {
			t.Errorf("%s: memory is %t in the answer, %t on its own, and the list is %+v; want %t", c.body, snap.Memory, got.Memory, listed, c.memory)
		}
	}
	for body, code := range map[string]string{`{"memory":0}`: "invalid_type", `{"memory":false,"force":true}`: "invalid_force", `{"disk_only":true}`: "unknown_field"} {
		if got := w.want(w.call("POST", of, body), http.StatusBadRequest).fault(w); got.Code != code || len(w.fake.snaps) != 4 {
			t.Errorf("%s: %s with %d snapshots, want %s with 4", body, got.Code, len(w.fake.snaps), code)
		}
	}
}

func TestSnapshotLists(t *testing.T) {
	w := newWorld(t)
	a, b := string(w.fake.add(sandbox.Running)), string(w.fake.add(sandbox.Running))
	ids := map[string]string{}
	for _, s := range []struct{ of, name string }{{a, "one"}, {b, "one"}, {a, "two"}} {
		snap := decode[types.Snapshot](w, w.call("POST", "/v1/sandboxes/"+s.of+"/snapshots", `{"name":"`+s.name+`"}`))
		ids[s.of+s.name] = snap.ID
	}
	for path, want := range map[string][]string{
		"/v1/snapshots":                              {ids[a+"two"], ids[b+"one"], ids[a+"one"]},
		"/v1/snapshots?name=one":                     {ids[b+"one"], ids[a+"one"]},
		"/v1/snapshots?name=none":                    nil,
		"/v1/snapshots?sandbox_id=" + a:              {ids[a+"two"], ids[a+"one"]},
		"/v1/snapshots?sandbox_id=" + a + "&limit=1": {ids[a+"two"]},
		"/v1/sandboxes/" + b + "/snapshots":          {ids[b+"one"]},
		"/v1/sandboxes/" + a + "/snapshots?limit=1":  {ids[a+"two"]},
	} {
		answer := w.want(w.call("GET", path, ""), http.StatusOK)
		var got []string
		for _, snap := range decode[[]types.Snapshot](w, answer) {
			got = append(got, snap.ID)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
		if more := strings.Contains(path, "limit"); (answer.Header.Get("X-Next-Cursor") != "") != more || (answer.Header.Get("Link") != "") != more {
			t.Errorf("%s: X-Next-Cursor %q", path, answer.Header.Get("X-Next-Cursor"))
		}
	}
}

func TestSnapshotQuotaHasRetryAfter(t *testing.T) {
	w := newWorld(t)
	of := string(w.fake.add(sandbox.Running))
	w.fake.createErr = fault.New(fault.Quota, control.ReasonSnapshotQuota, "there are too many")
	a := w.want(w.call("POST", "/v1/sandboxes/"+of+"/snapshots", ""), http.StatusTooManyRequests)
	if a.Header.Get("Retry-After") == "" || a.fault(w).Code != "snapshot_quota" {
		t.Errorf("%v %s", a.Header, a.body)
	}
}

func TestForkAnswer(t *testing.T) {
	w := newWorld(t)
	parent := string(w.fake.add(sandbox.Running))
	out := decode[types.ForkResponse](w, w.want(w.call("POST", "/v1/sandboxes/"+parent+"/fork", `{"count":2,"env":{"E":"1"},"metadata":{"k":"v"},`+
		`"timeout_sec":0,"lifetime_sec":60,"on_timeout":"pause","auto_resume":true}`), http.StatusCreated))
	if len(out.Sandboxes) != 1 || *out.Sandboxes[0].ParentID != parent || *out.Sandboxes[0].Source != "fork" || out.PauseWindowMS != 41.237 {
		t.Errorf("%+v", out)
	}
	if want := []types.FailedFork{{ID: "failed1", Code: "no_memory", Message: "the host is full"}}; !reflect.DeepEqual(out.Failed, want) {
		t.Errorf("%+v", out.Failed)
	}
	want := control.Fork{
		Count: 2, Env: map[string]string{"E": "1"}, Metadata: map[string]string{"k": "v"},
		Clocks: control.ClockRequest{
			Idle: ptr(time.Duration(0)), Lifetime: ptr(time.Minute), OnTimeout: ptr(sandbox.TimeoutPause), AutoResume: ptr(true),
		},
	}
	if !reflect.DeepEqual(w.fake.forked, want) {
		t.Errorf("%+v", w.fake.forked)
	}
	w.want(w.call("POST", "/v1/sandboxes/"+parent+"/fork", ""), http.StatusCreated)
	if w.fake.forked.Count != 1 {
		t.Errorf("the default count is %d", w.fake.forked.Count)
	}
}

func TestTimeoutRoutes(t *testing.T) {
	w := newWorld(t)
	sb := decode[types.Sandbox](w, w.want(w.call("POST", "/v1/sandboxes", `{"lifetime_sec":3600}`), http.StatusCreated))
	path := "/v1/sandboxes/" + sb.ID + "/timeout"
	clocks := decode[types.Clocks](w, w.want(w.call("GET", path, ""), http.StatusOK))
	if !reflect.DeepEqual(clocks, sb.Clocks) || clocks.CommandTimeoutSec != DefaultExecTimeoutSec || clocks.IdleTimeoutSec != 300 ||
		!clocks.IdleExpiresAt.Equal(sb.LastActiveAt.Add(5*time.Minute)) || clocks.LifetimeSec != 3600 || clocks.LifetimeExpiresAt == nil ||
		clocks.OnTimeout != "destroy" || clocks.AutoResume {
		t.Errorf("%+v", clocks)
	}
	clocks = decode[types.Clocks](w, w.want(w.call("PATCH", path, `{"timeout_sec":0,"extend_sec":60,"on_timeout":"pause","auto_resume":true}`), http.StatusOK))
	want := control.ClockRequest{
		Idle: ptr(time.Duration(0)), Extend: ptr(time.Minute), OnTimeout: ptr(sandbox.TimeoutPause), AutoResume: ptr(true),
	}
	if !reflect.DeepEqual(w.fake.clocks, want) {
		t.Errorf("%+v", w.fake.clocks)
	}
	if clocks.IdleExpiresAt != nil || clocks.OnTimeout != "pause" || !clocks.AutoResume {
		t.Errorf("%+v", clocks)
	}
	w.want(w.call("PATCH", path, `{"lifetime_sec":60}`), http.StatusOK)
	if got := w.fake.clocks; *got.Lifetime != time.Minute || got.Idle != nil || got.OnTimeout != nil || got.AutoResume != nil {
		t.Errorf("%+v", got)
	}
}

func TestGarbageRoute(t *testing.T) {
	w := newWorld(t)
	for body, want := range map[string]control.GarbageMode{
		"": control.GarbageList, "{}": control.GarbageList, `{"dry_run":true}`: control.GarbageList, `{"dry_run":false}`: control.GarbageRemove,
	} {
		out := decode[types.GarbageResponse](w, w.want(w.call("POST", "/v1/gc", body), http.StatusOK))
		if got := w.fake.garbage[len(w.fake.garbage)-1]; got != want || out.DryRun != (want == control.GarbageList) {
			t.Errorf("%q: %s, %+v", body, got, out)
		}
		if out.Bytes != 12 || len(out.Items) != 2 || out.Items[0].ID != "b1" {
			t.Errorf("%+v", out)
		}
	}
}

// TestEverySnapshotFieldIsShown fills every field with something of its own.
func TestEverySnapshotFieldIsShown(t *testing.T) {
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("east", 3600))
	snap := control.Snapshot{
		ID: "id1", Kind: control.KindNamed, Status: control.SnapshotReady, Name: "name1", TemplateName: "tmpl1",
		Of: sandbox.Ref{ID: "of1", Generation: 77}, HostID: "host1",
		Spec:  sandbox.Spec{Template: "img1", VCPUs: 3, MemoryMB: 333, DiskMB: 3333},
		Bytes: 11111, Users: 22, PauseWindow: 12500 * time.Microsecond, CreatedAt: when, UpdatedAt: when.Add(time.Hour),
		Metadata: map[string]string{"meta": "data"}, DiskOnly: true,
	}
	everyFieldFilled(t, snap)
	if snapshotOf(snap).Memory {
		t.Error("a snapshot without memory is shown as one with memory")
	}
	snap.DiskOnly = false
	everyFieldFilled(t, snapshotOf(snap))
	shown := ";" + leaves(reflect.ValueOf(snapshotOf(snap)))
	for _, want := range []string{
		"id1", "ready", "name1", "tmpl1", "of1", "host1", "img1", "3", "333", "3333", "11111", "22", "12.5", "2026-01-02T02:04:05Z", "meta=data",
	} {
		if !strings.Contains(shown, ";"+want+";") {
			t.Errorf("%s is not shown: %s", want, shown)
		}
	}
	for _, hidden := range []string{"77", "named"} {
		if strings.Contains(shown, ";"+hidden+";") {
			t.Errorf("%s is shown", hidden)
		}
	}
}
