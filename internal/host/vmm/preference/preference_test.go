package preference

import (
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/vmm/kvmprobe"
)

func TestPreferredRuntime(t *testing.T) {
	usable := kvmprobe.Report{Support: kvmprobe.Hardware, Reason: "it works"}
	none := kvmprobe.Report{Support: kvmprobe.None, Reason: "there is no /dev/kvm"}
	for _, c := range []struct {
		choice   Preference
		probe    kvmprobe.Report
		gvisor   bool
		required bool
		reason   string
	}{
		{Preference{}, usable, false, false, "because KVM is usable"},
		{Preference{}, none, true, false, "no usable KVM: there is no /dev/kvm; gVisor runs code at native speed"},
		{Preference{Runtime: "microvm"}, none, false, false, "--runtime microvm"},
		{Preference{Runtime: "gvisor"}, usable, true, true, "--runtime gvisor"},
		{Preference{Runsc: "/usr/local/bin/runsc"}, usable, false, true, "because KVM is usable"},
	} {
		if got := c.choice.PrefersGVisor(c.probe); got != c.gvisor {
			t.Errorf("%+v on %s: gVisor preferred: %t, want %t", c.choice, c.probe.Support, got, c.gvisor)
		}
		if got := c.choice.Required(); got != c.required {
			t.Errorf("%+v: gVisor required: %t, want %t", c.choice, got, c.required)
		}
		if got := c.choice.GVisorReason(c.probe); !strings.Contains(got, c.reason) {
			t.Errorf("%+v on %s: reason %q, want %q in it", c.choice, c.probe.Support, got, c.reason)
		}
	}
}
