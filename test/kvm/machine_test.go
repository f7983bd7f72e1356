package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// TestSilenceIsBroken checks that the output of a machine that says nothing for
// minutes goes on, with the line that names the present test.
func TestSilenceIsBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		console, machine := io.Pipe()
		var shown bytes.Buffer
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			follow(console, &shown)
		}()
		fmt.Fprint(machine, "=== RUN TestSlow\n")
		time.Sleep(5 * time.Minute) // the bubble's time
		machine.Close()
		<-ended
		if n := strings.Count(shown.String(), "last line was: === RUN TestSlow"); n < 5 {
			t.Fatalf("five silent minutes: the last line was repeated %d times, want at least once a minute:\n%s", n, shown.String())
		}
	})
}

// TestEveryStepIsForced checks that every step requires KVM: a suite that chose
// another acceleration, or was skipped, would prove nothing.
func TestEveryStepIsForced(t *testing.T) {
	all := append(options{patience: 1, tests: "^TestLifecycle$"}.steps(), options{patience: 1, tests: "^TestLifecycle$", short: true}.steps()...)
	for _, s := range all {
		all := strings.Join(append(s.Args, s.Env...), " ")
		if !strings.Contains(all, "--accel kvm") && (!strings.Contains(all, "WRENN_TEST_ACCEL=kvm") || !strings.Contains(all, "WRENN_REQUIRE=vm")) {
			t.Errorf("%s may run without KVM: %s", s.Name, all)
		}
		if s.Must == "" {
			t.Errorf("%s may do nothing and pass", s.Name)
		}
	}
}
