package bench

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestSummary(t *testing.T) {
	twenty := []float64{20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1}
	for _, c := range []struct {
		samples      []float64
		unit         Unit
		median, tail float64
		shown        string
	}{
		{[]float64{7}, Milliseconds, 7, 0, "-"},
		{[]float64{3, 1}, Milliseconds, 2, 0, "-"},
		{[]float64{5, 1, 3}, Milliseconds, 3, 0, "-"},
		{twenty[1:], Milliseconds, 10, 0, "-"},
		{twenty, Milliseconds, 10.5, 19, "19.0 ms"},
		{twenty, MiBPerSecond, 10.5, 1, "1.0 MiB/s"},
	} {
		before := slices.Clone(c.samples)
		m := Measurement{Unit: c.unit, Samples: c.samples}
		m.summarise()
		if m.Median != c.median || m.Tail != c.tail || m.showTail() != c.shown {
			t.Errorf("%v: median %v, tail %v, %s; want %v, %v, %s", c.samples, m.Median, m.Tail, m.showTail(), c.median, c.tail, c.shown)
		}
		if !slices.Equal(before, m.Samples) {
			t.Errorf("the order of %v was lost", before)
		}
	}
}

func TestSummaryLiesWithinTheSamples(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		samples := rapid.SliceOfN(rapid.Float64Range(0.001, 1e6), tailSamples, 60).Draw(t, "samples")
		m := Measurement{Unit: Milliseconds, Samples: samples}
		m.summarise()
		if m.Min > m.Median || m.Median > m.Max || m.Tail > m.Max || m.Tail < m.Min {
			t.Fatalf("%+v", m)
		}
		over := 0
		for _, s := range samples {
			if s > m.Tail {
				over++
			}
		}
		if float64(over) > 0.05*float64(len(samples)) {
			t.Fatalf("%d of %d samples are above the 95th percentile", over, len(samples))
		}
	})
}

func TestFitFindsTheLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slope := rapid.Float64Range(-5, 5).Draw(t, "slope")
		intercept := rapid.Float64Range(-500, 500).Draw(t, "intercept")
		xs := append([]float64{8, 256}, rapid.SliceOfN(rapid.Float64Range(1, 512), 0, 20).Draw(t, "xs")...)
		var points []Point
		for _, x := range xs {
			points = append(points, Point{DirtyMB: x, MS: intercept + slope*x})
		}
		f := fitLine(points)
		if f == nil || math.Abs(f.SlopeMSPerMB-slope) > 1e-6 || math.Abs(f.InterceptMS-intercept) > 1e-4 {
			t.Fatalf("%+v, want %v, %v", f, slope, intercept)
		}
		if math.Abs(slope) > 1e-6 && f.R2 < 0.999 || f.R2 > 1 {
			t.Fatalf("R² %v of points on a line", f.R2)
		}
	})
}

func TestFit(t *testing.T) {
	for name, c := range map[string]struct {
		points []Point
		want   *Fit
	}{
		"none":                 {nil, nil},
		"one":                  {[]Point{{8, 10}}, nil},
		"one amount":           {[]Point{{8, 10}, {8, 20}, {8, 30}}, nil},
		"an uneven amount":     {[]Point{{0.1, 10}, {0.1, 20}, {0.1, 30}}, nil},
		"two":                  {[]Point{{10, 30}, {20, 50}}, &Fit{2, 10, 1}},
		"flat":                 {[]Point{{1, 5}, {2, 5}, {3, 5}}, &Fit{0, 5, 1}},
		"scattered":            {[]Point{{0, 0}, {1, 2}, {2, 1}}, &Fit{0.5, 0.5, 0.25}},
		"without any relation": {[]Point{{0, 1}, {1, 0}, {2, 1}}, &Fit{0, 2. / 3, 0}},
	} {
		got := fitLine(c.points)
		if (got == nil) != (c.want == nil) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
			continue
		}
		if got != nil && math.Abs(got.SlopeMSPerMB-c.want.SlopeMSPerMB)+math.Abs(got.InterceptMS-c.want.InterceptMS)+math.Abs(got.R2-c.want.R2) > 1e-9 {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
