package sandbox_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func TestIDs(t *testing.T) {
	form := regexp.MustCompile(`^[a-z0-9]{20}$`)
	seen := make(map[sandbox.ID]bool)
	for range 10_000 {
		id := sandbox.NewID()
		if !form.MatchString(string(id)) || seen[id] {
			t.Fatalf("bad or repeated id %q", id)
		}
		seen[id] = true
		if back, err := sandbox.ParseID(string(id)); err != nil || back != id {
			t.Fatalf("%q does not parse: %v", id, err)
		}
	}
	for _, bad := range []string{"", "A", "a-b", "../etc", "a/b", "a.b", "ä", "a\x00", strings.Repeat("a", 49)} {
		if _, err := sandbox.ParseID(bad); !fault.Is(err, fault.NotFound) {
			t.Errorf("%q: %v, want NotFound", bad, err)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("abc234")
	f.Add("../../x")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := sandbox.ParseID(s); err == nil && (string(id) != s || strings.ContainsAny(s, "/.-\x00 ") || len(s) > 48) {
			t.Fatalf("%q was taken", s)
		}
	})
}

func TestTransitions(t *testing.T) {
	for _, from := range sandbox.States() {
		if sandbox.CanMove(from, from) {
			t.Errorf("%s can move to itself", from)
		}
		if sandbox.CanMove(from, sandbox.Pending) {
			t.Errorf("%s can go back to the start", from)
		}
		if from != sandbox.Stopped && !sandbox.CanMove(from, sandbox.Stopped) {
			t.Errorf("%s cannot end", from)
		}
		if sandbox.CanMove(sandbox.Stopped, from) {
			t.Errorf("stopped can become %s", from)
		}
		if from.Ended() && from.Holds() {
			t.Errorf("%s has ended and holds capacity", from)
		}
		found := false
		for _, s := range sandbox.StatesOf(from.Status()) {
			found = found || s == from
		}
		if !found {
			t.Errorf("the filter for %s misses %s", from.Status(), from)
		}
	}
	if len(sandbox.StatesOf("nonsense")) != 0 {
		t.Error("an unknown status has states")
	}
}

func TestSpecValidate(t *testing.T) {
	good := sandbox.Spec{Timeout: 300 * time.Second}.WithDefaults()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	if good.Template != "minimal" || good.VCPUs != 1 || good.MemoryMB != 512 {
		t.Fatalf("defaults %+v", good)
	}
	for name, change := range map[string]func(*sandbox.Spec){
		"template path":   func(s *sandbox.Spec) { s.Template = "../x" },
		"template dots":   func(s *sandbox.Spec) { s.Template = "a..b" },
		"template case":   func(s *sandbox.Spec) { s.Template = "Minimal" },
		"no vcpus":        func(s *sandbox.Spec) { s.VCPUs = -1 },
		"many vcpus":      func(s *sandbox.Spec) { s.VCPUs = sandbox.MaxVCPUs + 1 },
		"little memory":   func(s *sandbox.Spec) { s.MemoryMB = sandbox.MinMemoryMB - 1 },
		"negative idle":   func(s *sandbox.Spec) { s.Timeout = -1 },
		"small disk":      func(s *sandbox.Spec) { s.DiskMB = 1 },
		"isolation":       func(s *sandbox.Spec) { s.MinIsolation = "strong" },
		"env name":        func(s *sandbox.Spec) { s.Env = map[string]string{"A=B": "c"} },
		"env NUL":         func(s *sandbox.Spec) { s.Env = map[string]string{"A": "\x00"} },
		"env size":        func(s *sandbox.Spec) { s.Env = map[string]string{"A": strings.Repeat("x", sandbox.MaxEnvBytes)} },
		"empty env names": func(s *sandbox.Spec) { s.Env = map[string]string{"": "x"} },
	} {
		s := good
		change(&s)
		if err := s.Validate(); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want Invalid", name, err)
		}
	}
	err := sandbox.Spec{VCPUs: 9, MemoryMB: 512}.ValidateFor(sandbox.Limits{MaxVCPUs: 2, MinMemoryMB: 128, MaxMemoryMB: 1024})
	if err == nil || !strings.Contains(err.Error(), "1 to 2") {
		t.Errorf("the range is not named: %v", err)
	}
}

func TestIsolationMeets(t *testing.T) {
	for _, c := range []struct {
		have, want sandbox.Isolation
		ok         bool
	}{
		{sandbox.IsolationProcess, "", true},
		{sandbox.IsolationProcess, sandbox.IsolationProcess, true},
		{sandbox.IsolationProcess, sandbox.IsolationHardware, false},
		{sandbox.IsolationHardware, sandbox.IsolationHardware, true},
		{sandbox.IsolationProcess, sandbox.IsolationUserspaceKernel, false},
		{sandbox.IsolationUserspaceKernel, sandbox.IsolationProcess, true},
		{sandbox.IsolationUserspaceKernel, sandbox.IsolationUserspaceKernel, true},
		{sandbox.IsolationUserspaceKernel, sandbox.IsolationHardware, false},
		{sandbox.IsolationHardware, sandbox.IsolationUserspaceKernel, true},
		{sandbox.IsolationHardware, "nonsense", false},
		{"nonsense", sandbox.IsolationProcess, false},
	} {
		if c.have.Meets(c.want) != c.ok {
			t.Errorf("%q meets %q: want %v", c.have, c.want, c.ok)
		}
	}
}

func TestGuestPaths(t *testing.T) {
	if err := sandbox.ValidateGuestPath("/a/../b"); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "a", "./a", "~/a", "/a\x00b", "/" + strings.Repeat("a", sandbox.MaxPathLen)} {
		if err := sandbox.ValidateGuestPath(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%.20q: %v, want Invalid", bad, err)
		}
	}
}
