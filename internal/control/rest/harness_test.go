package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/wrenn-dev/wrenn/api"
)

// document is the OpenAPI document, loaded once.
var document = sync.OnceValue(func() *openapi3.T {
	doc, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		panic(err)
	}
	return doc
})

// operations finds the operation of a request in the document.
var operations = sync.OnceValue(func() routers.Router {
	doc := *document()
	doc.Servers = nil
	r, err := gorillamux.NewRouter(&doc)
	if err != nil {
		panic(err)
	}
	return r
})

// world is a server on a fake, and a client that holds every answer against
// the OpenAPI document.
type world struct {
	*testing.T
	fake *fakeSandboxes
	url  string
	log  *syncBuffer
}

// syncBuffer is a buffer that goroutines may share.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// newWorld starts a server. change, if given, alters its Config.
func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	w := &world{T: t, fake: newFake(), log: &syncBuffer{}}
	c := Config{
		Sandboxes: w.fake, Access: OpenOnLoopback(), Version: "test",
		Log: slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&c)
	}
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	w.url = srv.URL
	return w
}

// answer is a response with its body read.
type answer struct {
	*http.Response
	body []byte
}

// client follows no redirects.
var client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// call sends a request; headers are "Name: value". A body that starts with '{'
// is JSON.
func (w *world) call(method, path, body string, headers ...string) answer {
	w.Helper()
	return w.send(w.request(method, path, body, headers...))
}

// request returns the request of call.
func (w *world) request(method, path, body string, headers ...string) *http.Request {
	w.Helper()
	req, err := http.NewRequest(method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	if strings.HasPrefix(body, "{") {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header.Add(name, value)
	}
	return req
}

// send sends req and checks the answer against the document.
func (w *world) send(req *http.Request) answer {
	w.Helper()
	a := w.fetch(req)
	w.checkAnswer(req, a)
	return a
}

// fetch sends req and returns the answer, which it does not check.
func (w *world) fetch(req *http.Request) answer {
	w.Helper()
	resp, err := client.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatalf("%s %s: reading the answer: %v", req.Method, req.URL, err)
	}
	return answer{resp, body}
}

// checkAnswer compares a with the document, or with the error shape if the
// document has no such operation.
func (w *world) checkAnswer(req *http.Request, a answer) {
	w.Helper()
	if !saneRequestID.MatchString(a.Header.Get("X-Request-Id")) {
		w.Errorf("%s %s: X-Request-Id is %q", req.Method, req.URL, a.Header.Get("X-Request-Id"))
	}
	if a.StatusCode >= 400 && req.Method != http.MethodHead {
		a.fault(w)
	}
	probe := req.Clone(context.Background())
	if req.Method == http.MethodHead {
		probe.Method = http.MethodGet
	}
	route, params, err := operations().FindRoute(probe)
	if err != nil {
		if a.StatusCode < 400 && !strings.HasPrefix(req.URL.Path, "/docs") && req.URL.Path != "/" && req.Method != http.MethodOptions {
			w.Errorf("%s %s: %d, but the document has no such operation", req.Method, req.URL, a.StatusCode)
		}
		return
	}
	streamed := a.Header.Get("Content-Type") == ndjson
	err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: probe, PathParams: params, Route: route},
		Status:                 a.StatusCode,
		Header:                 a.Header,
		Body:                   io.NopCloser(bytes.NewReader(a.body)),
		Options: &openapi3filter.Options{
			IncludeResponseStatus: true, ExcludeResponseBody: streamed || req.Method == http.MethodHead,
		},
	})
	if err != nil {
		w.Errorf("%s %s: %d is not as documented: %v", req.Method, req.URL, a.StatusCode, err)
	}
	if streamed {
		for line := range bytes.Lines(a.body) {
			checkSchema(w.T, "ExecEvent", line)
		}
	}
}

// checkSchema checks JSON against one of the document's schemas.
func checkSchema(t *testing.T, schema string, data []byte) {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Errorf("%s: %v in %q", schema, err, data)
		return
	}
	if err := document().Components.Schemas[schema].Value.VisitJSON(v, openapi3.EnableJSONSchema2020()); err != nil {
		t.Errorf("%s: %v", schema, err)
	}
}

// fault returns the error in a, which must have the shape and nothing else.
func (a answer) fault(w *world) errorBody {
	w.Helper()
	var e struct {
		Error struct {
			Code, Message string
			Details       *collected
		}
	}
	dec := json.NewDecoder(bytes.NewReader(a.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil || e.Error.Code == "" || e.Error.Message == "" {
		w.Errorf("%d: not in the error shape: %q (%v)", a.StatusCode, a.body, err)
	}
	body := errorBody{Code: e.Error.Code, Message: e.Error.Message}
	if e.Error.Details != nil {
		body.Details = &outputJSON{DurationMS: e.Error.Details.DurationMS, Encoding: e.Error.Details.Encoding}
	}
	return body
}

// want fails the test unless a has the status, and returns a.
func (w *world) want(a answer, status int) answer {
	w.Helper()
	if a.StatusCode != status {
		w.Fatalf("%s %s: status %d, want %d: %s", a.Request.Method, a.Request.URL.Path, a.StatusCode, status, a.body)
	}
	return a
}

// decode decodes a's body.
func decode[T any](w *world, a answer) T {
	w.Helper()
	var v T
	if err := json.Unmarshal(a.body, &v); err != nil {
		w.Fatalf("%v in %s", err, a.body)
	}
	return v
}
