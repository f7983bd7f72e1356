package rest

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// TestCreateTells: a create with events tells its stages and ends with the sandbox or the
// error. What fails before the first event has the ordinary answer.
func TestCreateTells(t *testing.T) {
	w := newWorld(t)
	// create bypasses the test's check of answers against the document, which knows no events.
	create := func(body string, status int) (string, http.Header) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/v1/sandboxes", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", eventStream)
		r.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != status || (resp.Header.Get("Content-Type") == eventStream) != (status == http.StatusOK) {
			t.Errorf("%s: %d %s (%v), want %d", body, resp.StatusCode, answer, err, status)
		}
		return string(answer), resp.Header
	}
	quick, header := create(`{}`, http.StatusOK)
	if !strings.HasPrefix(quick, "event: sandbox\ndata: {\"id\":\"") || header.Get("Location") == "" {
		t.Errorf("a quick create: %s %v", quick, header)
	}
	create(`{"vcpus":0}`, http.StatusBadRequest)
	w.fake.createErr = fault.New(fault.NoCapacity, "no_capacity", "full")
	create(`{}`, http.StatusServiceUnavailable)

	w.fake.stages = []control.CreateStage{control.StageBootingTemplate, control.StageStarting}
	failed, _ := create(`{}`, http.StatusOK)
	for _, part := range []string{
		"event: progress\ndata: {\"stage\":\"booting_template\",\"elapsed_ms\":", "{\"stage\":\"starting\",", "event: error\ndata: {\"error\":{\"code\":\"no_capacity\"",
	} {
		_, rest, found := strings.Cut(failed, part)
		if !found {
			t.Fatalf("%q does not follow in %q", part, failed)
		}
		failed = rest
	}
	w.fake.createErr = nil
	made, _ := create(`{}`, http.StatusOK)
	if strings.Count(made, "event: progress") != 2 || strings.Count(made, "event: sandbox") != 1 {
		t.Errorf("a create with two stages: %s", made)
	}
}
