package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/wrenn-dev/wrenn/client"
)

// said is one request as the server saw it.
type said struct{ method, path, body string }

// record starts a server that answers every request with body and status, and
// returns the requests that it got.
func record(t *testing.T, status int, body string) (*client.Client, *[]said) {
	t.Helper()
	var asked []said
	cl := serve(t, func(w http.ResponseWriter, r *http.Request) {
		in, _ := io.ReadAll(r.Body)
		asked = append(asked, said{r.Method, r.URL.RequestURI(), string(in)})
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
	return cl, &asked
}

func wantSaid(t *testing.T, asked *[]said, want ...said) {
	t.Helper()
	if !slices.Equal(*asked, want) {
		t.Errorf("asked %+v, want %+v", *asked, want)
	}
}

func ptr[T any](v T) *T { return &v }

func TestTimeouts(t *testing.T) {
	cl, asked := record(t, 200, `{"command_timeout_sec":30,"idle_timeout_sec":300,"lifetime_expires_at":"2026-01-02T15:04:05Z","on_timeout":"pause"}`)
	got, err := cl.Timeout(t.Context(), "abc")
	if err != nil || got.IdleTimeoutSec != 300 || got.LifetimeExpiresAt == nil || got.IdleExpiresAt != nil || got.OnTimeout != client.OnTimeoutPause {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := cl.SetTimeout(t.Context(), "abc", client.TimeoutRequest{TimeoutSec: ptr(0), AutoResume: ptr(false)}); err != nil {
		t.Error(err)
	}
	wantSaid(t, asked,
		said{"GET", "/v1/sandboxes/abc/timeout", ""},
		said{"PATCH", "/v1/sandboxes/abc/timeout", `{"timeout_sec":0,"auto_resume":false}`})
}

func TestWithoutMemory(t *testing.T) {
	cl, asked := record(t, 200, `{"id":"abc","pause_mode":"disk"}`)
	got, err := cl.PauseWithoutMemory(t.Context(), "abc")
	if err != nil || got.PauseMode == nil || *got.PauseMode != "disk" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := cl.Reboot(t.Context(), "abc"); err != nil {
		t.Error(err)
	}
	wantSaid(t, asked,
		said{"POST", "/v1/sandboxes/abc/pause", `{"memory":false}`}, said{"POST", "/v1/sandboxes/abc/resume", `{"memory":false}`})
}

func TestFork(t *testing.T) {
	cl, asked := record(t, 201, `{"sandboxes":[{"id":"c1","parent_id":"abc"}],"failed":[{"id":"c2","code":"no_memory","message":"full"}],"pause_window_ms":41.2}`)
	got, err := cl.Fork(t.Context(), "abc", client.ForkRequest{Count: 2, LifetimeSec: ptr(0)})
	if err != nil || *got.Sandboxes[0].ParentID != "abc" || got.Failed[0].Code != "no_memory" || got.PauseWindowMS != 41.2 {
		t.Errorf("%+v, %v", got, err)
	}
	wantSaid(t, asked, said{"POST", "/v1/sandboxes/abc/fork", `{"count":2,"lifetime_sec":0}`})
}

func TestSnapshots(t *testing.T) {
	cl, asked := record(t, 200, `{"id":"s1","name":"n","bytes":7,"template_name":"mine"}`)
	ctx := t.Context()
	for what, do := range map[string]func() (*client.Snapshot, error){
		"create": func() (*client.Snapshot, error) {
			return cl.CreateSnapshot(ctx, "abc", client.SnapshotRequest{Name: "n"})
		},
		"get":      func() (*client.Snapshot, error) { return cl.GetSnapshot(ctx, "s1") },
		"template": func() (*client.Snapshot, error) { return cl.TemplateFromSnapshot(ctx, "s1", "mine") },
	} {
		if got, err := do(); err != nil || got.ID != "s1" || got.Bytes != 7 || *got.TemplateName != "mine" {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	if err := errors.Join(cl.RemoveTemplate(ctx, "s1"), cl.DeleteSnapshot(ctx, "s1")); err != nil {
		t.Error(err)
	}
	slices.SortFunc(*asked, func(a, b said) int { return slices.Compare([]string{a.method, a.path}, []string{b.method, b.path}) })
	wantSaid(t, asked,
		said{"DELETE", "/v1/snapshots/s1", ""},
		said{"DELETE", "/v1/snapshots/s1/template", ""},
		said{"GET", "/v1/snapshots/s1", ""},
		said{"POST", "/v1/sandboxes/abc/snapshots", `{"name":"n"}`},
		said{"POST", "/v1/snapshots/s1/template", `{"name":"mine"}`})
}

func TestSnapshotWithoutMemory(t *testing.T) {
	cl, asked := record(t, 201, `{"id":"s1","memory":false}`)
	got, err := cl.CreateSnapshot(t.Context(), "abc", client.SnapshotRequest{Memory: ptr(false)})
	if err != nil || got.Memory {
		t.Errorf("%+v, %v, want a snapshot without memory", got, err)
	}
	wantSaid(t, asked, said{"POST", "/v1/sandboxes/abc/snapshots", `{"memory":false}`})
}

func TestAllSnapshotsFollowsPages(t *testing.T) {
	pages := map[string]struct{ id, next string }{"": {"a", "2"}, "2": {"b", ""}}
	cl := serve(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("name") != "n" || q.Get("sandbox_id") != "abc" || q.Get("limit") == "" {
			t.Errorf("query %s", r.URL.RawQuery)
		}
		page := pages[q.Get("cursor")]
		if page.next != "" {
			w.Header().Set("X-Next-Cursor", page.next)
		}
		_ = json.NewEncoder(w).Encode([]client.Snapshot{{ID: page.id}})
	})
	var ids []string
	for snap, err := range cl.AllSnapshots(t.Context(), client.SnapshotOptions{Name: "n", SandboxID: "abc"}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, snap.ID)
	}
	if !slices.Equal(ids, []string{"a", "b"}) {
		t.Errorf("got %v", ids)
	}
	of, asked := record(t, 200, `[{"id":"a"}]`)
	if page, err := of.ListSnapshotsOf(t.Context(), "abc", client.SnapshotOptions{Limit: 5}); err != nil || len(page.Snapshots) != 1 {
		t.Errorf("%+v, %v", page, err)
	}
	wantSaid(t, asked, said{"GET", "/v1/sandboxes/abc/snapshots?limit=5", ""})
}

func TestImpossibleSnapshotIDIsNotSent(t *testing.T) {
	cl := serve(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("request %s", r.URL) })
	for _, id := range []string{"", "..", "a/b", "A", "a?b", "a%2fb"} {
		var e *client.Error
		if err := cl.DeleteSnapshot(t.Context(), id); !errors.As(err, &e) || e.Code != "snapshot_not_found" {
			t.Errorf("DeleteSnapshot(%q): %v, want snapshot_not_found", id, err)
		}
	}
}

func TestGC(t *testing.T) {
	cl, asked := record(t, 200, `{"dry_run":false,"bytes":7,"items":[{"host_id":"h","kind":"build","id":"b","bytes":7,"reason":"old"}]}`)
	for _, dry := range []bool{true, false} {
		if got, err := cl.GC(t.Context(), client.GCRequest{DryRun: dry}); err != nil || got.Bytes != 7 || got.Items[0].Reason != "old" {
			t.Errorf("%+v, %v", got, err)
		}
	}
	var want []said
	for _, dry := range []bool{true, false} {
		want = append(want, said{"POST", "/v1/gc", fmt.Sprintf(`{"dry_run":%t}`, dry)})
	}
	wantSaid(t, asked, want...)
}
