package host_test

import (
	"maps"
	"slices"
	"testing"
	"time"
)

// BenchmarkSteps creates, pauses and resumes one sandbox after another and
// reports the median of each step in milliseconds.
func BenchmarkSteps(b *testing.B) {
	h := newBench(b, "wbench")
	samples := make(map[string][]time.Duration)
	note := func(steps map[string]time.Duration) {
		for name, d := range steps {
			samples[name] = append(samples[name], d)
		}
	}
	for b.Loop() {
		ref := newRef()
		s, err := h.Create(b.Context(), ref, smallSpec)
		check(b, err)
		note(s.Steps)
		s, err = h.Pause(b.Context(), ref)
		check(b, err)
		note(s.Steps)
		ref.Generation++
		s, err = h.Resume(b.Context(), ref)
		check(b, err)
		note(s.Steps)
		check(b, h.Destroy(b.Context(), ref, ""))
	}
	for _, name := range slices.Sorted(maps.Keys(samples)) {
		all := samples[name]
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "ms/"+name)
	}
}
