package runtimes

import (
	"fmt"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
	"github.com/wrenn-dev/wrenn/test/runtimes/features"
)

// findings are the results of all probes in one sandbox, by the name of the feature.
type findings map[string]string

// probe runs all probes in a sandbox.
func (a agent) probe(ref sandbox.Ref) findings {
	a.t.Helper()
	found := findings{}
	for line := range strings.Lines(a.sh(ref, probePath)) {
		name, result, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok {
			a.t.Fatalf("the probes printed %q", line)
		}
		found[name] = result
	}
	return found
}

// TestFeatures tries every feature in a sandbox of each runtime, and compares the
// results with the table in docs/runtimes.md.
func TestFeatures(t *testing.T) {
	a := newAgent(t, "wrtf")
	var gvisor, microVM, withModules findings
	t.Run("probes", func(t *testing.T) {
		t.Run("gvisor", func(t *testing.T) {
			a := a.of(t)
			gvisor = a.probe(a.create(sandbox.RuntimeGVisor))
		})
		t.Run("microvm", func(t *testing.T) {
			a := a.of(t)
			ref := a.create(sandbox.RuntimeMicroVM)
			microVM = a.probe(ref)
			a.loadModules(ref)
			withModules = a.probe(ref)
		})
	})
	if !t.Failed() {
		agrees(t, "features", featureTable(microVM, withModules, gvisor))
	}
}

// featureTable formats the results, one table for each group.
func featureTable(columns ...findings) string {
	var b strings.Builder
	for _, g := range features.Groups() {
		fmt.Fprintf(&b, "\n### %s\n\n| feature | tried by | microvm | microvm with kernel modules | gvisor |\n|---|---|---|---|---|\n", g.Name)
		for _, f := range g.Features {
			fmt.Fprintf(&b, "| %s | %s |", f.Name, f.About)
			for _, c := range columns {
				fmt.Fprintf(&b, " %s |", strings.Replace(c[f.Name], "yes", "**yes**", 1))
			}
			b.WriteString("\n")
		}
	}
	b.WriteString("\n")
	return b.String()
}
