package crashpoints

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/journal"
)

var update = flag.Bool("update", false, "write docs/crash-points.md")

const document = "../../../docs/crash-points.md"

// TestCrashPointsAreTold compares the document with the operations' steps.
func TestCrashPointsAreTold(t *testing.T) {
	want := render(t)
	if *update {
		if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(document)
	if err != nil || string(got) != want {
		t.Errorf("docs/crash-points.md is stale (%v); run go test ./internal/host/crashpoints -update", err)
	}
}

// TestNamedTestsExist looks for each named test in the sources of package host.
func TestNamedTestsExist(t *testing.T) {
	files, err := filepath.Glob("../*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("the tests of package host are not found: %v", err)
	}
	var source strings.Builder
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(data)
	}
	for op, test := range tests {
		name, _, _ := strings.Cut(test, "/")
		if !strings.Contains(source.String(), "func "+name+"(t *testing.T)") {
			t.Errorf("the operation %s names the test %s, which does not exist", op, name)
		}
	}
}

func render(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(heading)
	for _, o := range journal.Operations() {
		test := tests[o.Name]
		if test == "" {
			t.Errorf("no test ends the agent at the steps of %q: write one and name it in table.go", o.Name)
		}
		b.WriteString("\n## " + o.Title + "\n\n| step | what the next agent does | test |\n|---|---|---|\n")
		for _, s := range o.Steps {
			if s.Recovery == journal.KeepState {
				t.Errorf("the step %s has no recovery: add it to the operation's table in package journal", s.Name)
			}
			b.WriteString("| `" + s.Name + "` | " + s.Recovery.String() + " | `" + test + "/" + s.Name + "` |\n")
		}
	}
	return b.String()
}

const heading = `# Crash points

VMs outlive the host agent. An agent writes each step of an operation to the sandbox's journal before it begins the step.
If the agent ends there, the next one reads the step and does what this table says. Each step has a test that ends the
agent before it, on fake VMs without root; the suites on real VMs do so at the steps that matter most.

This file is generated from internal/host/journal: run ` + "`go test ./internal/host/crashpoints -update`" + `.
`
