package sandbox_test

import (
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func TestValidateName(t *testing.T) {
	for _, good := range []string{"", "a", "web-1", "a.b_c-d", "0", strings.Repeat("x", sandbox.MaxNameLen), "abcdefghijklmnopqrst1"} {
		if err := sandbox.ValidateName(good); err != nil {
			t.Errorf("%q: %v, want it taken", good, err)
		}
	}
	for _, bad := range []string{
		"-a", "a-", ".a", "a.", "A", "a b", "a/b", "é", "a\x00b", strings.Repeat("x", sandbox.MaxNameLen+1), string(sandbox.NewID()),
	} {
		if err := sandbox.ValidateName(bad); !fault.Is(err, fault.Invalid) || fault.ReasonOf(err) != "invalid_name" {
			t.Errorf("%q: %v, want invalid_name", bad, err)
		}
	}
}
