package crashpoints

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host"
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
	for _, o := range operations {
		name, _, _ := strings.Cut(o.test, "/")
		if !strings.Contains(source.String(), "func "+name+"(t *testing.T)") {
			t.Errorf("%s names the test %s, which does not exist", o.title, name)
		}
	}
}

func render(t *testing.T) string {
	t.Helper()
	steps := host.Steps()
	var b strings.Builder
	b.WriteString(heading)
	for _, o := range operations {
		if len(steps[o.key]) == 0 {
			t.Errorf("package host has no operation %q", o.key)
		}
		b.WriteString("\n## " + o.title + "\n\n| step | what the next agent does | test |\n|---|---|---|\n")
		b.WriteString(o.table(t, steps[o.key]))
		delete(steps, o.key)
	}
	for key := range steps {
		t.Errorf("the operation %q has no rows: add it to table.go", key)
	}
	return b.String()
}

const heading = `# Crash points

VMs outlive the host agent. An agent writes each step of an operation to the sandbox's journal before it begins the step.
If the agent ends there, the next one reads the step and does what this table says. Each step has a test that ends the
agent before it, on fake VMs without root; the suites on real VMs do so at the steps that matter most.

This file is generated from internal/host/crashpoints: run ` + "`go test ./internal/host/crashpoints -update`" + `.
`

// table renders the rows of o. Each of its rows must name a step.
func (o operation) table(t *testing.T, steps []string) string {
	t.Helper()
	var b strings.Builder
	recovery, used := "", 0
	for _, step := range steps {
		for _, r := range o.rows {
			if r.from == step {
				recovery, used = r.recovery, used+1
			}
		}
		if recovery == "" {
			t.Errorf("the step %s has no row: add it to table.go", step)
		}
		b.WriteString("| `" + step + "` | " + recovery + " | `" + o.test + "/" + step + "` |\n")
	}
	if used != len(o.rows) {
		t.Errorf("%s: a row names no step", o.title)
	}
	return b.String()
}
