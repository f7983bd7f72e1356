package main

import (
	"testing"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

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
