package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryMeasurementIsDrawn with the recorded reports, and with samples that
// a logarithmic axis cannot hold.
func TestEveryMeasurementIsDrawn(t *testing.T) {
	reports, err := filepath.Glob("../../bench/*.json")
	if err != nil || len(reports) == 0 {
		t.Fatalf("no recorded reports: %v", err)
	}
	for _, path := range reports {
		out := filepath.Join(t.TempDir(), "plot.svg")
		if err := run([]string{path, out}); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		svg, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		wanted := []string{"<svg", "create_pool_to_exec", "pause"}
		if strings.Contains(string(text), `"lines"`) { // a run may leave them out
			wanted = append(wanted, "MiB written")
		}
		for _, want := range wanted {
			if !strings.Contains(string(svg), want) {
				t.Errorf("the plot of %s lacks %q", path, want)
			}
		}
	}
}

func TestSamplesWithoutWidth(t *testing.T) {
	r := report{Measurements: []measurement{
		{Name: "equal", Runtime: "gvisor", Group: "g", Unit: "ms", Samples: []float64{5, 5}},
		{Name: "negative", Group: "g", Unit: "ms", Samples: []float64{-1, 0}},
	}}
	var svg strings.Builder
	if err := r.draw(&svg); err != nil {
		t.Fatal(err)
	}
	if got := svg.String(); !strings.Contains(got, "equal gvisor") || strings.Contains(got, "NaN") || strings.Contains(got, "Inf") {
		t.Errorf("the plot is %s", got)
	}
	if err := (report{}).draw(&svg); err == nil {
		t.Error("a report without samples was drawn")
	}
}
