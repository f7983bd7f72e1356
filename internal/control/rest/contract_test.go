package rest

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-chi/chi/v5"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faulthttp"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func TestDocumentIsValid(t *testing.T) {
	if err := document().Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	if document().OpenAPI != "3.1.0" {
		t.Errorf("openapi is %q", document().OpenAPI)
	}
}

// documented returns "METHOD /path" of everything the document describes.
func documented() []string {
	var out []string
	for path, item := range document().Paths.Map() {
		for method := range item.Operations() {
			out = append(out, method+" "+path)
		}
	}
	slices.Sort(out)
	return out
}

func TestRouterAndDocumentAgree(t *testing.T) {
	s := &server{Config: Config{Sandboxes: newFake()}}
	var routed []string
	err := chi.Walk(s.routes(), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if route != "/" && !strings.HasPrefix(route, "/docs") { // pages for people
			routed = append(routed, method+" "+route)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(routed)
	if want := documented(); !slices.Equal(routed, want) {
		t.Errorf("router and document differ:\nrouter   %s\ndocument %s", routed, want)
	}
	if len(routed) < 24 {
		t.Errorf("only %d routes were compared", len(routed))
	}
}

// TestEveryFaultIsDocumented: an operation that reaches a host can fail with
// any kind, so the document has the status of each.
func TestEveryFaultIsDocumented(t *testing.T) {
	for _, kind := range fault.Kinds() {
		status := faulthttp.Status(kind)
		if kind == fault.Canceled {
			continue // nobody sees it
		}
		for _, op := range []string{
			"createSandbox", "execCommand", "uploadFile", "downloadFile", "forkSandbox", "createSnapshot", "setTimeout", "startProcess", "writeProcess",
		} {
			if operation(t, op).Responses.Status(status) == nil {
				t.Errorf("%s: %d (%s) is not documented", op, status, kind)
			}
		}
	}
}

func operation(t *testing.T, id string) *openapi3.Operation {
	t.Helper()
	for _, item := range document().Paths.Map() {
		for _, op := range item.Operations() {
			if op.OperationID == id {
				return op
			}
		}
	}
	t.Fatalf("the document has no operation %s", id)
	return nil
}

func TestDocumentSaysTheLimits(t *testing.T) {
	schemas := document().Components.Schemas
	prop := func(schema, name string) *openapi3.Schema {
		p := schemas[schema].Value.Properties[name]
		if p == nil {
			t.Fatalf("%s has no %s", schema, name)
		}
		return p.Value
	}
	for _, c := range []struct {
		schema, field  string
		def, low, high any
	}{
		{"CreateSandboxRequest", "vcpus", sandbox.DefaultVCPUs, 1, sandbox.MaxVCPUs},
		{"CreateSandboxRequest", "memory_mb", sandbox.DefaultMemoryMB, sandbox.MinMemoryMB, sandbox.MaxMemoryMB},
		{"CreateSandboxRequest", "disk_mb", sandbox.DefaultDiskMB, sandbox.MinDiskMB, sandbox.MaxDiskMB},
		{"CreateSandboxRequest", "timeout_sec", sandbox.DefaultTimeoutSec, 0, sandbox.MaxTimeoutSec},
		{"CreateSandboxRequest", "lifetime_sec", 0, 0, sandbox.MaxTimeoutSec},
		{"TimeoutRequest", "timeout_sec", nil, 0, sandbox.MaxTimeoutSec},
		{"TimeoutRequest", "lifetime_sec", nil, 0, sandbox.MaxTimeoutSec},
		{"TimeoutRequest", "extend_sec", nil, 1, sandbox.MaxTimeoutSec},
		{"ForkRequest", "timeout_sec", nil, 0, sandbox.MaxTimeoutSec},
		{"ForkRequest", "lifetime_sec", nil, 0, sandbox.MaxTimeoutSec},
		{"ForkRequest", "count", 1, 1, control.MaxForks},
		{"ExecRequest", "timeout_sec", DefaultExecTimeoutSec, 1, MaxExecTimeoutSec},
	} {
		p := prop(c.schema, c.field)
		if got, want := fmt.Sprint(p.Default, *p.Min, *p.Max), fmt.Sprint(c.def, float64(c.low.(int)), float64(c.high.(int))); got != want {
			t.Errorf("%s.%s: default, minimum, maximum %s, want %s", c.schema, c.field, got, want)
		}
	}
	if got := *prop("CreateSandboxRequest", "env").MaxProps; got != sandbox.MaxEnvEntries {
		t.Errorf("env.maxProperties is %d", got)
	}
	if got := *prop("CreateSandboxRequest", "metadata").MaxProps; got != control.MaxMetadataEntries {
		t.Errorf("metadata.maxProperties is %d", got)
	}
	if got := *prop("CreateSnapshotRequest", "name").MaxLength; got != control.MaxSnapshotName {
		t.Errorf("name.maxLength is %d", got)
	}
	if got := prop("CreateSandboxRequest", "template").Default; got != sandbox.DefaultTemplate {
		t.Errorf("template's default is %v", got)
	}
	if got := *prop("ReadFileRequest", "path").MaxLength; got != sandbox.MaxPathLen {
		t.Errorf("path.maxLength is %d", got)
	}
}

func TestDocumentSaysTheEnums(t *testing.T) {
	schemas := document().Components.Schemas
	var reasons []any
	for _, r := range sandbox.StopReasons() {
		reasons = append(reasons, string(r))
	}
	statuses := map[any]bool{}
	for _, s := range sandbox.States() {
		statuses[string(s.Status())] = true
	}
	sameSet(t, "stop_reason", schemas["StopReason"].Value.Enum, reasons)
	for _, enum := range [][]any{schemas["Status"].Value.Enum, schemas["Sandbox"].Value.Properties["status"].Value.Enum} {
		var want []any
		for s := range statuses {
			want = append(want, s)
		}
		sameSet(t, "status", enum, want)
	}
	actions := []any{string(sandbox.TimeoutDestroy), string(sandbox.TimeoutPause)}
	for _, schema := range []string{"CreateSandboxRequest", "Sandbox", "Clocks", "TimeoutRequest", "ForkRequest"} {
		sameSet(t, schema+".on_timeout", schemas[schema].Value.Properties["on_timeout"].Value.Enum, actions)
	}
	var snapshotStatuses []any
	for _, s := range control.SnapshotStatuses() {
		snapshotStatuses = append(snapshotStatuses, string(s))
	}
	sameSet(t, "snapshot status", schemas["Snapshot"].Value.Properties["status"].Value.Enum, snapshotStatuses)
	var isolations, runtimes []any
	for _, i := range sandbox.Isolations() {
		isolations = append(isolations, string(i))
	}
	for _, r := range sandbox.Runtimes() {
		runtimes = append(runtimes, string(r))
	}
	sameSet(t, "isolation", schemas["Isolation"].Value.Enum, isolations)
	sameSet(t, "effective isolation", schemas["EffectiveIsolation"].Value.Enum, append(isolations, ""))
	sameSet(t, "runtime", schemas["Runtime"].Value.Enum, runtimes)
	sameSet(t, "requested runtime", schemas["RequestedRuntime"].Value.Enum, append(runtimes, autoRuntime))
}

func sameSet(t *testing.T, what string, got, want []any) {
	t.Helper()
	text := func(s []any) string {
		var out []string
		for _, v := range s {
			out = append(out, fmt.Sprint(v))
		}
		slices.Sort(out)
		return strings.Join(out, ",")
	}
	if text(got) != text(want) {
		t.Errorf("%s: document has %s, code has %s", what, text(got), text(want))
	}
}

// TestSeedContractHolds checks that the contract that the project began from
// is contained in the document: operations, statuses, media types, fields,
// defaults, enums and required fields of requests.
func TestSeedContractHolds(t *testing.T) {
	data, err := os.ReadFile("testdata/seed-openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	seed, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for path, item := range seed.Paths.Map() {
		for method, op := range item.Operations() {
			where := method + " " + path
			ours := document().Paths.Value(path).GetOperation(method)
			if ours == nil || ours.OperationID != op.OperationID {
				t.Errorf("%s: missing, or not %s", where, op.OperationID)
				continue
			}
			compared++
			holdsOperation(t, where, op, ours)
		}
	}
	for name, schema := range seed.Components.Schemas {
		ours := document().Components.Schemas[name]
		if ours == nil {
			t.Errorf("schema %s is missing", name)
			continue
		}
		holdsSchema(t, name, schema.Value, ours.Value)
	}
	if compared != 9 {
		t.Errorf("%d operations were compared, the seed has 9", compared)
	}
}

func holdsOperation(t *testing.T, where string, seed, ours *openapi3.Operation) {
	t.Helper()
	for status, resp := range seed.Responses.Map() {
		got := ours.Responses.Value(status)
		if got == nil {
			t.Errorf("%s: status %s is missing", where, status)
			continue
		}
		holdsContent(t, where+" "+status, resp.Value.Content, got.Value.Content)
	}
	if seed.RequestBody == nil {
		if ours.RequestBody != nil && ours.RequestBody.Value.Required {
			t.Errorf("%s: requires a body now", where)
		}
		return
	}
	if ours.RequestBody == nil || seed.RequestBody.Value.Required != ours.RequestBody.Value.Required {
		t.Errorf("%s: the body is not as required", where)
		return
	}
	holdsContent(t, where+" body", seed.RequestBody.Value.Content, ours.RequestBody.Value.Content)
}

func holdsContent(t *testing.T, where string, seed, ours openapi3.Content) {
	t.Helper()
	for typ, media := range seed {
		got := ours[typ]
		if got == nil {
			t.Errorf("%s: %s is missing", where, typ)
			continue
		}
		if media.Schema.Ref != got.Schema.Ref {
			t.Errorf("%s: schema is %q, want %q", where, got.Schema.Ref, media.Schema.Ref)
		}
		holdsSchema(t, where, media.Schema.Value, got.Schema.Value)
	}
}

func holdsSchema(t *testing.T, where string, seed, ours *openapi3.Schema) {
	t.Helper()
	for _, typ := range seed.Type.Slice() {
		if !slices.Contains(ours.Type.Slice(), typ) {
			t.Errorf("%s: type is %v, want %v", where, ours.Type, seed.Type)
		}
	}
	if len(ours.Type.Slice()) != len(seed.Type.Slice()) && !seed.Nullable {
		t.Errorf("%s: type is %v, want %v", where, ours.Type, seed.Type)
	}
	if fmt.Sprint(seed.Default) != fmt.Sprint(ours.Default) || seed.Format != ours.Format {
		t.Errorf("%s: default or format differs: %v %q, want %v %q", where, ours.Default, ours.Format, seed.Default, seed.Format)
	}
	if len(seed.Enum) > 0 {
		sameSet(t, where, ours.Enum, seed.Enum)
	}
	for _, name := range seed.Required {
		if !slices.Contains(ours.Required, name) {
			t.Errorf("%s: %s is not required any more", where, name)
		}
	}
	if strings.HasSuffix(where, "Request") && len(ours.Required) != len(seed.Required) {
		t.Errorf("%s: %v is required, the seed has %v", where, ours.Required, seed.Required)
	}
	for name, p := range seed.Properties {
		got := ours.Properties[name]
		if got == nil {
			t.Errorf("%s: field %s is missing", where, name)
			continue
		}
		holdsSchema(t, where+"."+name, p.Value, got.Value)
	}
	if seed.Items != nil {
		holdsSchema(t, where+"[]", seed.Items.Value, ours.Items.Value)
	}
}
