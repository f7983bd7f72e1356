package client

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestFollowBuild(t *testing.T) {
	const id = "00000000-0000-4000-8000-000000000001"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/templates/-/builds/"+id+"/logs" || r.URL.Query().Get("after") != "3" {
			t.Errorf("request for %s", r.URL)
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, ": alive\n\nevent: later\ndata: {}\n\nevent: progress\ndata: {\"done\":1,\"total\":2}\n\n"+
			"event: log\nid: 4\ndata: {\"seq\":4,\"message\":\"a\"}\n\nevent: result\ndata: {\"status\":\"ready\"}\n\n")
	}))
	defer srv.Close()
	s, err := (&Client{BaseURL: srv.URL}).FollowBuild(t.Context(), AnyTemplate, id, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	progress, err1 := s.Next()
	entry, err2 := s.Next()
	end, err3 := s.Next()
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	if progress.Progress == nil || progress.Progress.Total != 2 || entry.Log == nil || entry.Log.Seq != 4 || end.Build == nil || end.Build.Status != BuildReady {
		t.Errorf("%+v, %+v, %+v", progress, entry, end)
	}
	if _, err := s.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v, want io.EOF", err)
	}
}

func TestABuildStreamThatBreaksIsNoEnd(t *testing.T) {
	for body, want := range map[string]string{
		"event: log\ndata: {\"seq\":1}\n\n": "broke off",
		"event: error\ndata: {\"error\":{\"code\":\"shutting_down\",\"message\":\"the server is shutting down\"}}\n\n": "shutting_down",
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
		s, err := (&Client{BaseURL: srv.URL}).FollowBuild(t.Context(), "web", "x", 0)
		for err == nil {
			_, err = s.Next()
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", body, err, want)
		}
		srv.Close()
	}
}

func TestTemplateNamesCannotLeaveTheirPath(t *testing.T) {
	c := &Client{BaseURL: "http://127.0.0.1:1"}
	for _, name := range []string{"", ".", "..", "a/b", "a?b", "A", "a:b", "%2e"} {
		var refused *Error
		if _, err := c.GetTemplate(t.Context(), name); !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
			t.Errorf("%q: %v", name, err)
		}
	}
}
