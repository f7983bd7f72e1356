package control_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestCompleteFillsDefaults: an empty request gives the defaults of the contract.
func TestCompleteFillsDefaults(t *testing.T) {
	t.Parallel()
	got, err := control.SpecRequest{}.Complete(nil)
	want := sandbox.Spec{
		Template: sandbox.DefaultTemplate, VCPUs: sandbox.DefaultVCPUs, MemoryMB: sandbox.DefaultMemoryMB,
		DiskMB: sandbox.DefaultDiskMB, Timeout: sandbox.DefaultTimeoutSec * time.Second, OnTimeout: sandbox.TimeoutDestroy,
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("an empty request is completed to %+v, %v; want %+v", got, err, want)
	}
}

// ofTemplate are the fields that come from a template and not from a request.
var ofTemplate = map[string]bool{"TemplateID": true, "TemplateRef": true, "User": true, "Workdir": true}

// TestCompleteTakesWhatIsGiven: every setting of a request arrives in the spec, also
// a timeout of zero, which means never.
func TestCompleteTakesWhatIsGiven(t *testing.T) {
	t.Parallel()
	want := sandbox.Spec{
		Template: "py-3.12", VCPUs: 2, MemoryMB: 1024, DiskMB: 4096, Lifetime: 2 * time.Hour, OnTimeout: sandbox.TimeoutPause,
		AutoResume: true, Env: map[string]string{"A": "b"}, Hostname: "box", MinIsolation: sandbox.IsolationProcess,
		Runtime: sandbox.RuntimeMicroVM, PublicPorts: []int{80}, PublicTraffic: true, RequestHost: "localhost:${PORT}",
		HTTPSPorts: []int{8443}, Egress: sandbox.DenyAll(), PauseDiskOnly: true,
	}
	for v, i := reflect.ValueOf(want), 0; i < v.NumField(); i++ {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() && name != "Timeout" && name != "TrafficKey" && name != "EnvdToken" && name != "InitialLifetime" && !ofTemplate[name] {
			t.Fatalf("the test gives no %s", name)
		}
	}
	if got, err := request(want).Complete(nil); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

// TestCompleteRefuses: a value that is given is never replaced by a default, and a size
// out of range is refused with the range of the hosts.
func TestCompleteRefuses(t *testing.T) {
	t.Parallel()
	zero, empty := 0, ""
	small := []control.HostInfo{{Limits: sandbox.Limits{MaxVCPUs: 4, MinMemoryMB: 128, MaxMemoryMB: 2048}}, {}}
	for _, c := range []struct {
		request control.SpecRequest
		hosts   []control.HostInfo
		message string
	}{
		{control.SpecRequest{VCPUs: &zero}, nil, "vcpus must be from 1 to 64"},
		{control.SpecRequest{VCPUs: &zero}, small, "vcpus must be from 1 to 4"},
		{control.SpecRequest{MemoryMB: &zero}, small, "memory_mb must be from 128 to 2048"},
		{control.SpecRequest{DiskMB: &zero}, small, "disk_mb must be from 256 to 1048576"},
		{control.SpecRequest{Template: &empty}, nil, "template must be a name of lower-case letters, digits, '.', '_' and '-', at most 63 characters"},
		{control.SpecRequest{Clocks: control.ClockRequest{OnTimeout: ptr(sandbox.TimeoutAction(""))}}, nil, `on_timeout must be "destroy" or "pause"`},
	} {
		_, err := c.request.Complete(c.hosts)
		if !fault.Is(err, fault.Invalid) || fault.As(err).Public != c.message {
			t.Errorf("got %v, want Invalid %q", err, c.message)
		}
	}
}
