package main

import (
	"io"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/test/kvm/plan"
)

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		console string
		said    bool
		passed  bool
	}{
		{"booting\r\n" + plan.Verdict + "0\r\n[  12.3] reboot\n", true, true},
		{plan.Verdict + "2\n", true, false},
		{plan.Verdict + "nonsense\n", true, false},
		{"kernel panic\n", false, false},
		{"", false, false},
	} {
		verdict := follow(strings.NewReader(c.console), io.Discard)
		if (verdict != nil) != c.said {
			t.Errorf("%q: a verdict: %v, want %v", c.console, verdict != nil, c.said)
		} else if verdict != nil && (verdict() == nil) != c.passed {
			t.Errorf("%q: %v, want passed %v", c.console, verdict(), c.passed)
		}
	}
}

// TestEveryStepIsForced: a suite that chose another acceleration, or was
// skipped, would prove nothing.
func TestEveryStepIsForced(t *testing.T) {
	for _, s := range (options{patience: 1, tests: "^TestLifecycle$"}).plan() {
		all := strings.Join(append(s.Args, s.Env...), " ")
		if !strings.Contains(all, "--accel kvm") && (!strings.Contains(all, "WRENN_TEST_ACCEL=kvm") || !strings.Contains(all, "WRENN_REQUIRE=vm")) {
			t.Errorf("%s may run without KVM: %s", s.Name, all)
		}
		if s.Must == "" {
			t.Errorf("%s may do nothing and pass", s.Name)
		}
	}
}
