package agent

import (
	"strings"
	"testing"
)

func TestValidHostname(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "sb-abc1": true, "a.b": true, "A9": true, strings.Repeat("a", 64): true,
		"": false, "-a": false, "a-": false, ".a": false, "a_b": false, "a b": false, "a\nb": false,
		strings.Repeat("a", 65): false,
	} {
		if got := validHostname(name); got != want {
			t.Errorf("validHostname(%q) = %v", name, got)
		}
	}
}
