package bench

import (
	"math"
	"slices"
)

// Unit is what a measurement's samples count.
type Unit string

// The units.
const (
	Milliseconds Unit = "ms"
	MiBPerSecond Unit = "MiB/s"
	MiB          Unit = "MiB"
)

// Shape says how calls followed each other.
type Shape string

// The shapes.
const (
	Sequential Shape = "sequential" // one at a time
	Staggered  Shape = "staggered"  // each begun some time after the one before
	Burst      Shape = "burst"      // all at once
	Without    Shape = "bare"       // QEMU without Wrenn
)

// tailSamples is how many samples it takes to speak of a 95th percentile:
// with fewer it would be the worst of them.
const tailSamples = 20

// Measurement is everything known about one operation.
type Measurement struct {
	Name  string `json:"name"`
	Group Group  `json:"group"`
	Shape Shape  `json:"shape"`
	Unit  Unit   `json:"unit"`
	// About says in a few words what was measured.
	About  string  `json:"about"`
	N      int     `json:"n"`
	Median float64 `json:"median"`
	// Tail is, by nearest rank, what TailOf says: the 95th percentile, but of
	// throughputs the 5th, for there the low ones hurt. Both are left out
	// below tailSamples.
	Tail   float64 `json:"tail,omitempty"`
	TailOf string  `json:"tail_of,omitempty"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	// Samples are in the order in which they were taken.
	Samples []float64 `json:"samples"`
}

// summarise fills in what follows from the samples.
func (m *Measurement) summarise() {
	m.N = len(m.Samples)
	if m.N == 0 {
		m.Samples = []float64{}
		return
	}
	sorted := slices.Sorted(slices.Values(m.Samples))
	m.Min, m.Max = sorted[0], sorted[m.N-1]
	m.Median = median(sorted)
	if m.N < tailSamples {
		return
	}
	m.TailOf, m.Tail = tailName(m.Unit), rank(sorted, 0.95)
	if m.Unit == MiBPerSecond {
		m.Tail = rank(sorted, 0.05)
	}
}

// showTail writes the tail, or that there is none.
func (m *Measurement) showTail() string {
	if m.TailOf == "" {
		return "-"
	}
	return show(m.Tail, m.Unit)
}

func tailName(u Unit) string {
	if u == MiBPerSecond {
		return "p5"
	}
	return "p95"
}

// median is the middle of sorted, or the mean of the middle two.
func median(sorted []float64) float64 {
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// rank is the nearest-rank quantile of sorted, for 0 < q <= 1.
func rank(sorted []float64, q float64) float64 {
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}
