package main

import (
	"io"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/test/kvm/plan"
)

func TestResult(t *testing.T) {
	for _, c := range []struct {
		console string
		said    bool
		passed  bool
	}{
		{"booting\r\n" + plan.Result + "0\r\n[  12.3] reboot\n", true, true},
		{plan.Result + "2\n", true, false},
		{plan.Result + "nonsense\n", true, false},
		{"kernel panic\n", false, false},
		{"", false, false},
	} {
		result := follow(strings.NewReader(c.console), io.Discard)
		if (result != nil) != c.said {
			t.Errorf("%q: a result: %v, want %v", c.console, result != nil, c.said)
		} else if result != nil && (result() == nil) != c.passed {
			t.Errorf("%q: %v, want passed %v", c.console, result(), c.passed)
		}
	}
}

// TestEveryStepIsForced checks that every step requires KVM: a suite that chose
// another acceleration, or was skipped, would prove nothing.
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
