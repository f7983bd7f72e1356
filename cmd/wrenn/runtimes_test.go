package main

import (
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/vmm/kvmprobe"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func TestPreferredRuntime(t *testing.T) {
	usable := kvmprobe.Report{Support: kvmprobe.Hardware, Reason: "it works"}
	none := kvmprobe.Report{Support: kvmprobe.None, Reason: "there is no /dev/kvm"}
	for _, c := range []struct {
		settings runtimeSettings
		probe    kvmprobe.Report
		gvisor   bool
		required bool
		reason   string
	}{
		{runtimeSettings{preferred: "auto"}, usable, false, false, "because KVM is usable"},
		{runtimeSettings{preferred: "auto"}, none, true, false, "no usable KVM (there is no /dev/kvm); gVisor runs code at native speed"},
		{runtimeSettings{preferred: "microvm"}, none, false, false, "--runtime microvm"},
		{runtimeSettings{preferred: "gvisor"}, usable, true, true, "--runtime gvisor"},
		{runtimeSettings{preferred: "auto", runsc: "/usr/local/bin/runsc"}, usable, false, true, "because KVM is usable"},
	} {
		if got := c.settings.prefersGVisor(c.probe); got != c.gvisor {
			t.Errorf("%+v on %s: gVisor preferred: %t, want %t", c.settings, c.probe.Support, got, c.gvisor)
		}
		if got := c.settings.required(); got != c.required {
			t.Errorf("%+v: gVisor required: %t, want %t", c.settings, got, c.required)
		}
		if got := c.settings.gvisorReason(c.probe); !strings.Contains(got, c.reason) {
			t.Errorf("%+v on %s: reason %q, want %q in it", c.settings, c.probe.Support, got, c.reason)
		}
	}
}

func TestPoolOfARuntime(t *testing.T) {
	for text, want := range map[string]sandbox.Runtime{"gvisor": "gvisor", "microvm": "microvm", "auto": ""} {
		kind, err := parsePool("runtime=" + text + ",size=3")
		if err != nil || kind.Spec.Runtime != want || kind.Size != 3 {
			t.Errorf("runtime=%s: got %+v, %v; want the runtime %q and 3 clones", text, kind, err, want)
		}
	}
	if _, err := parsePool("runtime=docker,size=1"); err == nil {
		t.Error("runtime=docker: got no error, want one that names the runtimes")
	}
}
