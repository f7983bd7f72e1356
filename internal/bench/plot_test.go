package bench

import (
	"encoding/xml"
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestAxisHoldsEverySample(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		low := rapid.Float64Range(0.001, 1e6).Draw(t, "low")
		high := low * rapid.Float64Range(1, 1e4).Draw(t, "factor")
		a := newAxis(low, high)
		for _, v := range append([]float64{0, -5, low, high}, a.ticks...) {
			if x := a.at(v); math.IsNaN(x) || x < plotLeft || x > plotRight {
				t.Fatalf("%v of [%v, %v] is drawn at %v", v, low, high, x)
			}
		}
		if len(a.ticks) == 0 {
			t.Fatalf("no tick between %v and %v", low, high)
		}
	})
}

func TestLinearTicks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		high := rapid.Float64Range(1, 1e6).Draw(t, "high")
		ticks := linearTicks(high)
		if len(ticks) < 4 || len(ticks) > 12 || ticks[0] != 0 || ticks[len(ticks)-1] > high {
			t.Fatalf("%v for %v", ticks, high)
		}
	})
}

func TestTextAndPlotHaveEverything(t *testing.T) {
	o := smallOptions()
	o.Density = 2
	report, err := measure(t, &server{pool: 2}, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range report.Measurements {
		if m := &report.Measurements[i]; m.Name == opBareBoot {
			m.Samples = []float64{1500, 1500}
			m.summarise()
		}
	}
	report.find(opExecAdded).Samples[0] = -0.5
	report.Ratios = report.ratios()
	var text, svg strings.Builder
	if err := errors.Join(report.Text(&text), report.SVG(&svg)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"wrenn v9", "qemu 10.0", "create_pool_to_exec", "burst_all", "\nFork, snapshot ", "pause_64_mb", "exec_added",
		"not measured: idle_memory: ", "pause: 60.00 ms and 2.000 ms per MiB written, R² 1.000, n 4",
		"burst: 3 creates in 150 ms, 2 from the pool of 2, 0 failed.", "density: 2 of 2 sandboxes alive together",
		"create_restore is 10.0 times as fast as bare_boot", "create_pool is 100.0 times",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, text.String())
		}
	}
	all := 0
	for _, m := range report.Measurements {
		all += m.N
	}
	for _, l := range report.Lines {
		all += len(l.Points)
	}
	if n := strings.Count(svg.String(), `fill-opacity="0.55"`); n != all {
		t.Errorf("the plot has %d samples of %d", n, all)
	}
	if n := strings.Count(svg.String(), `stroke-width="1.5"`); n != 4 {
		t.Errorf("the plot has %d lines", n)
	}
	if err := xml.Unmarshal([]byte(svg.String()), new(struct{ XMLName xml.Name })); err != nil {
		t.Errorf("the plot is not well-formed: %v", err)
	}
	if bad := strings.Contains(svg.String(), "NaN") || strings.Contains(svg.String(), "Inf"); bad {
		t.Error("the plot has something without a place")
	}
}

func TestPlotOfNothing(t *testing.T) {
	r := Report{Lines: []Line{{Name: opPause, Points: []Point{{8, 0}}}}}
	var text, svg strings.Builder
	if err := errors.Join(r.Text(&text), r.SVG(&svg)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "pause: no line through 1 samples") || strings.Contains(svg.String(), "NaN") {
		t.Errorf("%s", text.String())
	}
}
