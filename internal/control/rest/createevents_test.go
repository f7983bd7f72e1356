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
// error. A failure before the first event has the ordinary answer.
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

// TestFailedEventsFreeTheKey: a create that fails after its first event frees or keeps its
// Idempotency-Key as a create without events does.
func TestFailedEventsFreeTheKey(t *testing.T) {
	for name, c := range map[string]struct {
		err error
		// again is a part of the retry's answer, and replayed tells whether it is the first answer.
		again    string
		replayed bool
		status   int
	}{
		"without effect": {fault.New(fault.NoCapacity, "no_capacity", "full"), "event: sandbox\n", false, http.StatusOK},
		"bad input":      {fault.New(fault.Invalid, "template_not_found", "none"), "event: sandbox\n", false, http.StatusOK},
		"unknown effect": {fault.New(fault.HostFailed, "outcome_unknown", "who knows"), "outcome_unknown", true, http.StatusOK},
		"cut off":        {fault.New(fault.NoCapacity, errShuttingDown.Reason, "stops"), "idempotency_outcome_unknown", false, http.StatusConflict},
	} {
		t.Run(name, func(t *testing.T) {
			answers := &fakeAnswers{}
			w := newWorld(t, func(c *Config) { c.Answers = answers })
			w.fake.stages = []control.CreateStage{control.StageStarting}
			create := func() (string, *http.Response) {
				t.Helper()
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/v1/sandboxes", strings.NewReader(`{}`))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Accept", eventStream)
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set(idempotencyHeader, "k")
				resp, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				answer, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				return string(answer), resp
			}
			w.fake.createErr = c.err
			if first, resp := create(); resp.StatusCode != http.StatusOK || !strings.Contains(first, "event: error\n") {
				t.Fatalf("the first create: got %d %s, want an error after an event", resp.StatusCode, first)
			}
			answers.abandon()
			w.fake.createErr = nil
			again, resp := create()
			if resp.StatusCode != c.status || !strings.Contains(again, c.again) || (resp.Header.Get(replayedHeader) == "true") != c.replayed {
				t.Errorf("the retry: got %d %s (replayed %q), want %d with %q, replayed %t",
					resp.StatusCode, again, resp.Header.Get(replayedHeader), c.status, c.again, c.replayed)
			}
		})
	}
}
