package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faulthttp"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func TestLifeOfASandbox(t *testing.T) {
	w := newWorld(t)
	created := w.want(w.call("POST", "/v1/sandboxes", `{"metadata":{"job":"17"}}`), http.StatusCreated)
	sb := decode[types.Sandbox](w, created)
	path := "/v1/sandboxes/" + sb.ID
	if got := created.Header.Get("Location"); got != path {
		t.Errorf("Location is %q, want %q", got, path)
	}
	if sb.Status != "running" || sb.Metadata["job"] != "17" || sb.StopReason != nil {
		t.Errorf("created %+v", sb)
	}
	if got := decode[types.Sandbox](w, w.want(w.call("POST", path+"/pause", ""), http.StatusOK)); got.Status != "paused" {
		t.Errorf("paused %+v", got)
	}
	w.want(w.call("POST", path+"/pause", ""), http.StatusConflict)
	w.want(w.call("POST", path+"/pause?force=yes", ""), http.StatusBadRequest)
	w.want(w.call("POST", path+"/resume", ""), http.StatusOK)
	got := decode[types.Sandbox](w, w.want(w.call("POST", path+"/pause?force=true", ""), http.StatusOK))
	if got.Status != "paused" || got.Health == nil || !got.Health.Forced || got.Health.State != "unresponsive" || got.Health.Since == nil {
		t.Errorf("paused by force: %+v, health %+v", got, got.Health)
	}
	w.want(w.call("POST", path+"/exec", `{"cmd":"true"}`), http.StatusConflict)
	if got := decode[types.Sandbox](w, w.want(w.call("POST", path+"/resume", `{}`), http.StatusOK)); got.Status != "running" {
		t.Errorf("resumed %+v", got)
	}
	w.want(w.call("POST", path+"/resume", ""), http.StatusConflict)
	if got := w.want(w.call("DELETE", path, ""), http.StatusNoContent); len(got.body) != 0 {
		t.Errorf("204 with a body %q", got.body)
	}
	w.want(w.call("DELETE", path, ""), http.StatusNoContent)
	if got := decode[types.Sandbox](w, w.want(w.call("GET", path, ""), http.StatusOK)); got.Status != "stopped" {
		t.Errorf("destroyed %+v", got)
	}
	if got := w.want(w.call("HEAD", path, ""), http.StatusOK); len(got.body) != 0 {
		t.Errorf("HEAD with a body %q", got.body)
	}
	hosts := decode[[]types.Host](w, w.want(w.call("GET", "/v1/hosts", ""), http.StatusOK))
	if len(hosts) != 2 || hosts[0].SeenAt != nil || hosts[1].Limits.MaxVCPUs != fakeLimits.MaxVCPUs {
		t.Errorf("hosts %+v", hosts)
	}
}

func TestCreateDefaults(t *testing.T) {
	for _, body := range []string{"{}", "{ } "} {
		w := newWorld(t)
		sb := decode[types.Sandbox](w, w.want(w.call("POST", "/v1/sandboxes", body), http.StatusCreated))
		got := fmt.Sprint(sb.Template, sb.VCPUs, sb.MemoryMB, sb.TimeoutSec, sb.DiskMB, sb.Metadata)
		if want := fmt.Sprint("minimal", 1, 512, 300, 2048, map[string]string{}); got != want {
			t.Errorf("body %q: %s, want %s", body, got, want)
		}
	}
}

func TestCreatePassesEveryField(t *testing.T) {
	w := newWorld(t)
	w.want(w.call("POST", "/v1/sandboxes", `{"template":"py-3.12","vcpus":2,"memory_mb":1024,"disk_mb":4096,`+
		`"timeout_sec":0,"env":{"A":"b=c","É":""},"metadata":{"k":"v"},"min_isolation":"process","runtime":"gvisor",`+
		`"lifetime_sec":7200,"on_timeout":"pause","auto_resume":true,"public_ports":[80,8080]}`), http.StatusCreated)
	got := w.fake.rows[0]
	want := sandbox.Spec{
		Template: "py-3.12", VCPUs: 2, MemoryMB: 1024, DiskMB: 4096, Timeout: 0,
		Lifetime: 2 * time.Hour, OnTimeout: sandbox.TimeoutPause, AutoResume: true,
		Env: map[string]string{"A": "b=c", "É": ""}, MinIsolation: sandbox.IsolationProcess,
		Runtime: sandbox.RuntimeGVisor, PublicPorts: []int{80, 8080},
	}
	if !reflect.DeepEqual(got.Spec, want) || got.Metadata["k"] != "v" {
		t.Errorf("got %+v %v", got.Spec, got.Metadata)
	}
}

func TestSizesAreRefusedWithTheHostsLimits(t *testing.T) {
	w := newWorld(t)
	for body, want := range map[string]string{
		`{"vcpus":65}`:     "vcpus must be from 1 to 8",
		`{"vcpus":9}`:      "vcpus must be from 1 to 8",
		`{"vcpus":0}`:      "vcpus must be from 1 to 8",
		`{"memory_mb":1}`:  "memory_mb must be from 128 to 4096",
		`{"memory_mb":-1}`: "memory_mb must be from 128 to 4096",
	} {
		if got := w.want(w.call("POST", "/v1/sandboxes", body), http.StatusBadRequest).fault(w); got.Message != want {
			t.Errorf("%s: %q, want %q", body, got.Message, want)
		}
	}
	w.fake.hostErr = fault.New(fault.HostFailed, "host_unreachable", "no host")
	if got := w.want(w.call("POST", "/v1/sandboxes", `{"vcpus":0}`), http.StatusBadRequest).fault(w); got.Message != "vcpus must be from 1 to 64" {
		t.Errorf("without hosts: %q", got.Message)
	}
}

func TestListFiltersAndPages(t *testing.T) {
	w := newWorld(t)
	var ids []string
	for _, st := range []sandbox.State{sandbox.Running, sandbox.Paused, sandbox.Stopped, sandbox.Running, sandbox.Error} {
		ids = append([]string{string(w.fake.add(st))}, ids...)
	}
	list := func(query string) (got []string, next answer) {
		a := w.want(w.call("GET", "/v1/sandboxes"+query, ""), http.StatusOK)
		for _, sb := range decode[[]types.Sandbox](w, a) {
			got = append(got, sb.ID)
		}
		return got, a
	}
	for query, want := range map[string][]string{
		"":                                ids,
		"?status=running":                 {ids[1], ids[4]},
		"?status=running,paused":          {ids[1], ids[3], ids[4]},
		"?status=stopped&status=error":    {ids[0], ids[2]},
		"?template=minimal&status=paused": {ids[3]},
		"?template=other":                 nil,
		"?limit=1000":                     ids,
		"?cursor=&limit=5":                ids,
		"?template=minimal&":              ids,
	} {
		if got, _ := list(query); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	if a := w.call("GET", "/v1/sandboxes?template=other", ""); strings.TrimSpace(string(a.body)) != "[]" {
		t.Errorf("an empty list is %s", a.body)
	}
	var all []string
	for query, pages := "?limit=2&status=running,paused,error", 0; query != ""; pages++ {
		got, a := list(query)
		all = append(all, got...)
		link := a.Header.Get("Link")
		if (link == "") != (a.Header.Get("X-Next-Cursor") == "") || pages > 3 {
			t.Fatalf("page %d: Link %q, X-Next-Cursor %q", pages, link, a.Header.Get("X-Next-Cursor"))
		}
		path, _ := strings.CutSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
		query = strings.TrimPrefix(path, "/v1/sandboxes")
	}
	if want := []string{ids[0], ids[1], ids[3], ids[4]}; !reflect.DeepEqual(all, want) {
		t.Errorf("pages give %v, want %v", all, want)
	}
}

func TestEveryKindOfFaultHasItsStatus(t *testing.T) {
	for _, kind := range fault.Kinds() {
		w := newWorld(t)
		w.fake.createErr = fault.Wrap(errors.New("secret cause"), kind, "some_reason", "a sentence")
		a := w.call("POST", "/v1/sandboxes", "{}")
		want, code := faulthttp.Status(kind), "some_reason"
		if kind == fault.Canceled { // the caller is still there, so it was not the caller who cancelled
			want, code = http.StatusServiceUnavailable, "interrupted"
		}
		w.want(a, want)
		if got := a.fault(w); got.Code != code || strings.Contains(string(a.body), "secret") {
			t.Errorf("%s: %s", kind, a.body)
		}
		retry := want == http.StatusTooManyRequests || want == http.StatusServiceUnavailable
		if (a.Header.Get("Retry-After") != "") != retry {
			t.Errorf("%s: Retry-After is %q", kind, a.Header.Get("Retry-After"))
		}
		if !strings.Contains(w.log.String(), "secret cause") && kind != fault.Canceled {
			t.Errorf("%s: the cause is not in the log", kind)
		}
	}
	w := newWorld(t)
	w.fake.createErr = errors.New("secret cause")
	if a := w.want(w.call("POST", "/v1/sandboxes", "{}"), http.StatusInternalServerError); strings.Contains(string(a.body), "secret") {
		t.Errorf("an unclassified error shows its cause: %s", a.body)
	}
}

// TestEverySandboxFieldIsShown fills every field of control.Sandbox, and of
// the spec and host information, with a value of its own and looks for it in the
// answer. Fields that are kept back are listed with the reason.
func TestEverySandboxFieldIsShown(t *testing.T) {
	keptBack := map[string]string{
		"TrafficKey": "a secret; GET .../traffic shows its token", "EnvdToken": "empty in rows; a secret",
		"InitialLifetime": "the lifetime before changes, for E2B's clients", "PublicTraffic": "a setting of E2B's clients alone", "PauseDiskOnly": "a setting of E2B's clients alone", "RequestHost": "a setting of E2B's clients alone", "PublicPorts": "shown by GET .../traffic", "HTTPSPorts": "shown by GET .../traffic",
		"Generation": "internal", "Server": "internal", "BuildID": "its sandboxes are hidden", "Spec": "shown field by field", "Egress": "shown field by field", "Env": "secret",
		"MinIsolation": "the actual isolation is shown instead",
		"Limits":       "shown field by field", "RestoreReport": "shown field by field", "Pools": "shown field by field",
		"Runtimes": "shown field by field", "TemplateDigests": "for the cache of builds", "DiskPauses": "true for every agent of this version", "TemplateID": "of E2B's dialect alone",
		"User": "the guest's default", "Workdir": "the guest's default",
	}
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("east", 3600))
	sb := control.Sandbox{
		BuildID: "build-79", ID: "id1", Name: "name-6", Generation: 77, Server: 78, DiskFull: true, State: sandbox.Paused, HostID: "host9",
		GuestIP: "1.1.1.1", HostIP: "2.2.2.2",
		Acceleration: "kvm", Isolation: sandbox.IsolationHardware, StopReason: sandbox.ReasonOOM, Message: "a message",
		CreatedAt: when, StartedAt: ptr(when.Add(time.Hour)), LastActiveAt: ptr(when.Add(2 * time.Hour)),
		UpdatedAt: when.Add(3 * time.Hour), EndedAt: ptr(when.Add(4 * time.Hour)),
		Metadata:   map[string]string{"meta": "data"},
		SnapshotID: "snap8", ParentID: "parent8", Source: "pool", LifetimeEndsAt: ptr(when.Add(5 * time.Hour)),
		RestoreReport: &sandbox.RestoreReport{
			At: when.Add(6 * time.Hour), Generation: 78, ClockStep: 9 * time.Millisecond, ClockSkew: 1500 * time.Microsecond,
			Reseeded: true, NewIdentity: true, TokenReplaced: true, NetworkAnswers: true, VMGeneration: "vmgenid",
			ConnectionsClosed: 12, Steps: map[string]time.Duration{"entropy": 2 * time.Millisecond},
		},
		Health:   sandbox.Health{State: sandbox.HealthUnresponsive, Since: when.Add(time.Hour), Forced: true},
		DiskOnly: true,
		Spec: sandbox.Spec{
			PauseDiskOnly: true,
			Template:      "tmpl", TemplateID: "template-id", TemplateRef: "tmpl", User: "app", Workdir: "/srv", VCPUs: 3, MemoryMB: 333, DiskMB: 3333, Timeout: 33333 * time.Second,
			Lifetime: 44444 * time.Second, OnTimeout: sandbox.TimeoutPause, AutoResume: true,
			Env: map[string]string{"E": "V"}, MinIsolation: sandbox.IsolationProcess, Hostname: "host-7",
			Runtime: sandbox.RuntimeMicroVM, PublicPorts: []int{8081}, TrafficKey: "traffic-key", EnvdToken: "envd-token",
			InitialLifetime: 9 * time.Hour, PublicTraffic: true, RequestHost: "host-${PORT}", HTTPSPorts: []int{8443},
			Egress: sandbox.Egress{Deny: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, Allow: []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32")}},
		},
	}
	host := control.HostInfo{
		ID: "hid", AgentVersion: "av", GuestVersion: "gv", KernelRelease: "kr",
		Runtimes: []control.HostRuntime{{
			Runtime: sandbox.RuntimeGVisor, Driver: "dr", DriverVersion: "dv", Acceleration: "tcg", Reason: "why",
			Isolation: sandbox.IsolationProcess, MultiTenant: true, DiskMemoryShare: 0.25,
		}},
		VCPUs: 5, MemoryMB: 55, DiskTotal: 555, DiskFree: 5555, Templates: []string{"tt"}, TemplateDigests: []string{"td"}, Draining: true, DiskPauses: true, Reachable: true,
		SeenAt: when, BootRetries: 4, DiskReserve: 777, DiskRoomMB: 778, MemoryRoomMB: 779, Reflink: true,
		Pools:  []control.Pool{{Template: "pt", Runtime: sandbox.RuntimeGVisor, VCPUs: 11, MemoryMB: 12, DiskMB: 13, Target: 14, Ready: 15, Hits: 16, Misses: 17}},
		Limits: sandbox.Limits{MaxVCPUs: 6, MinMemoryMB: 66, MaxMemoryMB: 666},
	}
	for _, v := range []any{sb, sb.Spec, host, host.Limits, host.Pools[0], host.Runtimes[0], *sb.RestoreReport} {
		everyFieldFilled(t, v)
	}
	shown := leaves(reflect.ValueOf(sandboxOf(sb))) + leaves(reflect.ValueOf(hostOf(host)))
	for _, v := range []any{sb, sb.Spec, host, host.Limits, host.Pools[0], host.Runtimes[0], *sb.RestoreReport} {
		rv := reflect.ValueOf(v)
		for i := range rv.NumField() {
			name := rv.Type().Field(i).Name
			if _, ok := keptBack[name]; ok && name != "Generation" || name == "Generation" && rv.Type() == reflect.TypeFor[control.Sandbox]() {
				continue
			}
			want := leaves(rv.Field(i))
			switch name {
			case "Timeout":
				want = "33333;"
			case "Lifetime":
				want = "44444;"
			case "ClockStep":
				want = "9;"
			case "ClockSkew":
				want = "1.5;"
			case "Steps":
				want = "entropy=2;"
			case "Health":
				want = leaves(reflect.ValueOf(types.GuestHealth{State: "unresponsive", Since: ptr(when.Add(time.Hour)), Forced: true}))
			case "DiskOnly":
				want = "disk;"
			case "State":
				want = string(sandbox.StatusPaused) + ";"
			}
			if !strings.Contains(";"+shown, ";"+want) {
				t.Errorf("%T.%s (%s) is not shown", v, name, want)
			}
		}
	}
	for _, secret := range []string{"77;", "E=V", "traffic-key"} {
		if strings.Contains(";"+shown, ";"+secret) {
			t.Errorf("%s is shown", secret)
		}
	}
	everyFieldFilled(t, sandboxOf(sb))
	everyFieldFilled(t, hostOf(host))
	if sandboxOf(sb).CreatedAt.Location() != time.UTC || sandboxOf(sb).EndedAt.Location() != time.UTC {
		t.Error("times are not in UTC")
	}
}

func ptr[T any](v T) *T { return &v }

func everyFieldFilled(t *testing.T, v any) {
	t.Helper()
	rv := reflect.ValueOf(v)
	for i := range rv.NumField() {
		if rv.Field(i).IsZero() {
			t.Errorf("%T.%s is empty: fill it in the test, or convert it", v, rv.Type().Field(i).Name)
		}
	}
}

// leaves returns the values in v, each followed by ';'.
func leaves(v reflect.Value) string {
	if t, ok := v.Interface().(time.Time); ok {
		return t.UTC().Format(time.RFC3339) + ";"
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return ""
		}
		return leaves(v.Elem())
	case reflect.Slice:
		var out string
		for i := range v.Len() {
			out += leaves(v.Index(i))
		}
		return out
	case reflect.Struct:
		var out string
		for i := range v.NumField() {
			out += leaves(v.Field(i))
		}
		return out
	case reflect.Map:
		var out string
		for _, k := range v.MapKeys() {
			out += fmt.Sprintf("%v=%v;", k, v.MapIndex(k))
		}
		return out
	default:
		return fmt.Sprint(v) + ";"
	}
}

// TestDiskRoomIsShownIfTheHostReportsIt: a full disk (0) is shown, an unknown one
// is not.
func TestDiskRoomIsShownIfTheHostReportsIt(t *testing.T) {
	for _, c := range []struct {
		host control.HostInfo
		want *int64
	}{
		{control.HostInfo{ID: "full", SeenAt: time.Now()}, ptr(int64(0))},
		{control.HostInfo{ID: "older-agent", SeenAt: time.Now(), DiskRoomMB: math.MaxInt}, nil},
		{control.HostInfo{ID: "never-seen"}, nil},
	} {
		text, err := json.Marshal(hostOf(c.host))
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			DiskRoomMB *int64 `json:"disk_room_mb"`
		}
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.DiskRoomMB, c.want) || strings.Contains(string(text), "disk_room_mb") != (c.want != nil) {
			t.Errorf("host %s: got %s, want disk_room_mb %v", c.host.ID, text, c.want)
		}
	}
}

// TestHostname: the default is made of the id; a name is one label of RFC 1123.
func TestHostname(t *testing.T) {
	w := newWorld(t)
	label := strings.Repeat("a", 63)
	for name, want := range map[string]string{"": "wrenn-", "web-1": "web-1", "7": "7", label: label, "Web": "Web"} {
		sb := decode[types.Sandbox](w, w.want(w.call("POST", "/v1/sandboxes", `{"hostname":"`+name+`"}`), http.StatusCreated))
		if want == "wrenn-" {
			want += sb.ID
		}
		if sb.Hostname != want {
			t.Errorf("hostname %q: got %q, want %q", name, sb.Hostname, want)
		}
	}
	for _, bad := range []string{"-a", "a-", "a.b", "a_b", "a b", "ä", label + "a", "a\\n"} {
		got := w.want(w.call("POST", "/v1/sandboxes", `{"hostname":"`+bad+`"}`), http.StatusBadRequest).fault(w)
		if got.Code != "invalid_name" || !strings.Contains(got.Message, "hostname") {
			t.Errorf("hostname %q: got %+v, want invalid_name", bad, got)
		}
	}
}
