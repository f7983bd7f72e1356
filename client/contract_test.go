package client

import (
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// methods maps each operation of the API to its method of Client.
var methods = map[string]string{
	"createSandbox":  "Create",
	"listSandboxes":  "List",
	"getSandbox":     "Get",
	"destroySandbox": "Destroy",
	"pauseSandbox":   "Pause",
	"resumeSandbox":  "Resume",
	"execCommand":    "Exec",
	"putFile":        "WriteFile",
	"uploadFile":     "WriteFile", // the same as a form
	"getFile":        "ReadFile",
	"listFiles":      "Files", "statFile": "StatFile", "makeDirectory": "MakeDirectory", "moveFile": "MoveFile", "removeFile": "RemoveFile",
	"getArchive": "ReadArchive", "putArchive": "WriteArchive", "watchFiles": "WatchFiles", "signFile": "SignFile",
	"downloadFile":   "ReadFile", // the same with a JSON body
	"getTimeout":     "Timeout",
	"setTimeout":     "SetTimeout",
	"getTraffic":     "Traffic",
	"getNetwork":     "Network",
	"setNetwork":     "SetNetwork",
	"forkSandbox":    "Fork",
	"createSnapshot": "CreateSnapshot",
	"listSnapshots":  "ListSnapshots",
	"getSnapshot":    "GetSnapshot",
	"deleteSnapshot": "DeleteSnapshot",
	"setTemplate":    "TemplateFromSnapshot",
	"unsetTemplate":  "RemoveTemplate",
	"collectGarbage": "GC",
	"listHosts":      "Hosts",
	"listErrors":     "ErrorCodes",

	"startProcess":      "StartProcess",
	"listProcesses":     "Processes",
	"getProcess":        "Process",
	"waitProcess":       "WaitProcess",
	"attachProcess":     "Attach",
	"writeProcess":      "WriteProcess",
	"closeProcessStdin": "CloseProcessStdin",
	"signalProcess":     "SignalProcess",
	"resizeProcess":     "ResizeProcess",
	"ackProcess":        "AcknowledgeProcess",

	"listTemplates":  "ListTemplates",
	"getTemplate":    "GetTemplate",
	"deleteTemplate": "DeleteTemplate",
	"buildTemplate":  "BuildTemplate",
	"listBuilds":     "Builds",
	"getBuild":       "Build",
	"cancelBuild":    "CancelBuild",
	"getBuildLogs":   "BuildLogs",
	"getTag":         "TemplateTag",
	"setTag":         "SetTemplateTag",
	"removeTag":      "RemoveTemplateTag",
	"getUpload":      "HasUpload",
	"putUpload":      "PutUpload",

	"listSandboxSnapshots": "ListSnapshotsOf",
	"health":               "Health",
	"ready":                "Ready",
	"openapi":              "OpenAPI",
}

func loadContract(t *testing.T) *openapi3.T {
	t.Helper()
	raw, err := os.ReadFile("../api/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestEveryOperationHasAMethod(t *testing.T) {
	var operations []string
	for _, item := range loadContract(t).Paths.Map() {
		for _, op := range item.Operations() {
			operations = append(operations, op.OperationID)
		}
	}
	slices.Sort(operations)
	if known := slices.Sorted(maps.Keys(methods)); !slices.Equal(operations, known) {
		t.Errorf("the API has the operations\n%v, the client knows\n%v", operations, known)
	}
	for _, name := range methods {
		if _, ok := reflect.TypeFor[*Client]().MethodByName(name); !ok {
			t.Errorf("Client has no method %s", name)
		}
	}
}

// TestTypesMatchTheContract compares field names, so that none can be
// forgotten on either side.
func TestTypesMatchTheContract(t *testing.T) {
	doc := loadContract(t)
	for schema, typ := range map[string]reflect.Type{
		"CreateSandboxRequest": reflect.TypeFor[CreateRequest](),
		"Sandbox":              reflect.TypeFor[Sandbox](),
		"ExecRequest":          reflect.TypeFor[wireExecRequest](),
		"Host":                 reflect.TypeFor[Host](),
		"Pool":                 reflect.TypeFor[Pool](),
		"Clocks":               reflect.TypeFor[Clocks](),
		"TimeoutRequest":       reflect.TypeFor[TimeoutRequest](),
		"RestoreReport":        reflect.TypeFor[RestoreReport](),
		"ForkRequest":          reflect.TypeFor[ForkRequest](),
		"ForkResponse":         reflect.TypeFor[Forked](),
		"FailedFork":           reflect.TypeFor[FailedFork](),
		"Snapshot":             reflect.TypeFor[Snapshot](),
		"TemplateRequest":      reflect.TypeFor[templateRequest](),
		"BuildTemplateRequest": reflect.TypeFor[BuildRequest](),
		"Template":             reflect.TypeFor[Template](),
		"TemplateBuild":        reflect.TypeFor[TemplateBuild](),
		"GarbageRequest":       reflect.TypeFor[GCRequest](),
		"GarbageResponse":      reflect.TypeFor[Garbage](),
		"GarbageItem":          reflect.TypeFor[GarbageItem](),

		"CreateSnapshotRequest": reflect.TypeFor[SnapshotRequest](),
		"ErrorCode":             reflect.TypeFor[ErrorCode](),
		"Health":                reflect.TypeFor[Health](),
		"ErrorBody":             reflect.TypeFor[wireError](),
	} {
		want := slices.Sorted(maps.Keys(doc.Components.Schemas[schema].Value.Properties))
		if got := jsonFields(typ); !slices.Equal(got, want) {
			t.Errorf("%s: the type has %v, the contract %v", schema, got, want)
		}
	}
}

func jsonFields(typ reflect.Type) []string {
	var names []string
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
