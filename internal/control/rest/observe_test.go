package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestRequestIDs(t *testing.T) {
	w := newWorld(t)
	seen := map[string]bool{}
	for _, given := range []string{"", "abc-123_X.y", strings.Repeat("a", 128), strings.Repeat("a", 129), "a b", "a\"b", "é", "<script>"} {
		for _, path := range []string{"/healthz", "/v1/sandboxes", "/nothing", "/v1/sandboxes/NO", "/docs", "/"} {
			a := w.call("GET", path, "", "X-Request-Id: "+given)
			id := a.Header.Get("X-Request-Id")
			keep := saneRequestID.MatchString(given)
			if keep != (id == given) {
				t.Errorf("%s: %q became %q", path, given, id)
			}
			if !keep && seen[id] {
				t.Errorf("%s: the id %q was given twice", path, id)
			}
			seen[id] = true
		}
	}
}

// logLine returns the access log's line for a request id.
func (w *world) logLine(id string) map[string]any {
	w.Helper()
	for line := range strings.Lines(w.log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			w.Fatal(err)
		}
		if m["request"] == id {
			return m
		}
	}
	w.Fatalf("no line for %s in\n%s", id, w.log.String())
	return nil
}

func TestAccessLog(t *testing.T) {
	w, path := execWorld(t)
	w.fake.exec = says(control.ExecResult{}, nil, "1:output-secret")
	a := w.want(w.call("POST", path, `{"cmd":"cmd-secret","env":{"TOKEN":"env-secret"},"stdin":"stdin-secret"}`,
		"Authorization: Bearer key-secret"), http.StatusOK)
	w.want(w.call("GET", "/v1/sandboxes?status=query-secret", "", "Authorization: Bearer key-secret"), http.StatusBadRequest)
	line := w.logLine(a.Header.Get("X-Request-Id"))
	for key, want := range map[string]any{
		"method": "POST", "route": "/v1/sandboxes/{id}/exec", "status": 200.0, "level": "INFO", "sandbox": string(w.fake.rows[0].ID),
	} {
		if line[key] != want {
			t.Errorf("%s is %v, want %v", key, line[key], want)
		}
	}
	if line["duration"] == nil || line["bytes"] != float64(len(a.body)) {
		t.Errorf("line %v", line)
	}
	if strings.Contains(w.log.String(), "secret") {
		t.Errorf("the log holds a secret:\n%s", w.log.String())
	}
	a = w.call("GET", "/v1/sandboxes/abc", "")
	if line := w.logLine(a.Header.Get("X-Request-Id")); line["code"] != "sandbox_not_found" || line["level"] != "INFO" || line["status"] != 404.0 {
		t.Errorf("line %v", line)
	}
	w.fake.createErr = fault.Wrap(errors.New("disk /dev/x is gone"), fault.HostFailed, "host_failed", "the host failed")
	a = w.call("POST", "/v1/sandboxes", "{}")
	if line := w.logLine(a.Header.Get("X-Request-Id")); line["level"] != "ERROR" || !strings.Contains(line["error"].(string), "/dev/x") {
		t.Errorf("line %v", line)
	}
}

func TestPanics(t *testing.T) {
	w, path := execWorld(t)
	w.fake.exec = func(context.Context, control.Exec, control.ExecSink) (control.ExecResult, error) {
		panic("secret panic")
	}
	a := w.want(w.call("POST", path, `{"cmd":"x"}`), http.StatusInternalServerError)
	if bytes.Contains(a.body, []byte("secret")) {
		t.Errorf("the panic is shown: %s", a.body)
	}
	if line := w.logLine(a.Header.Get("X-Request-Id")); !strings.Contains(line["error"].(string), "secret panic") || !strings.Contains(line["error"].(string), "observe_test.go") {
		t.Errorf("the log has no trace: %v", line)
	}
	// After the first byte there is no error shape any more: the connection is cut.
	w.fake.exec = func(_ context.Context, _ control.Exec, sink control.ExecSink) (control.ExecResult, error) {
		_ = sink.Stdout([]byte("x"))
		panic("later panic")
	}
	req, _ := http.NewRequest("POST", w.url+path, strings.NewReader(`{"cmd":"x"}`))
	req.Header.Set("Accept", ndjson)
	req.Header.Set("X-Request-Id", "later")
	resp, err := client.Do(req)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("a stream cut by a panic looks whole")
	}
	if line := w.logLine("later"); line["code"] != "internal" {
		t.Errorf("line %v", line)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/healthz", "/readyz"} {
		if a := w.want(w.call("GET", path, ""), http.StatusOK); decode[types.Health](w, a).Version != "test" {
			t.Errorf("%s: %s", path, a.body)
		}
		w.want(w.call("HEAD", path, ""), http.StatusOK)
	}
	for _, err := range []error{errors.New("database"), fault.New(fault.HostFailed, "host_unreachable", "no host"), context.DeadlineExceeded} {
		w.fake.ready = err
		if a := w.want(w.call("GET", "/readyz", ""), http.StatusServiceUnavailable); a.Header.Get("Retry-After") == "" {
			t.Errorf("%v: %v", err, a.Header)
		}
		w.want(w.call("GET", "/healthz", ""), http.StatusOK)
	}
}
