package bench

import (
	"math"
	"slices"
)

// Unit is the unit of a measurement's samples.
type Unit string

// The units.
const (
	Milliseconds Unit = "ms"
	MiBPerSecond Unit = "MiB/s"
	MiB          Unit = "MiB"
	Share        Unit = "of a core"
)

// Shape tells how the requests of a measurement follow each other.
type Shape string

// The shapes.
const (
	Sequential Shape = "sequential" // one at a time
	Staggered  Shape = "staggered"  // started at a fixed interval
	Burst      Shape = "burst"      // all at once
	Without    Shape = "bare"       // QEMU without Wrenn
)

// tailSamples is the smallest number of samples for which a 95th percentile is
// reported. With fewer, it would be the maximum.
const tailSamples = 20

// Measurement holds the samples of one operation and their summary.
type Measurement struct {
	Name  string `json:"name"`
	Group Group  `json:"group"`
	Shape Shape  `json:"shape"`
	// Subject is the runtime or the bare subject. It is empty for the only runtime
	// of a server.
	Subject Subject `json:"runtime,omitempty"`
	Unit    Unit    `json:"unit"`
	// About describes the operation in a few words.
	About  string  `json:"about"`
	N      int     `json:"n"`
	Median float64 `json:"median"`
	// Tail is the percentile that TailOf names, by nearest rank: the 95th of
	// times, the 5th of throughputs, because low throughputs are the bad ones.
	// Both are left out below tailSamples.
	Tail   float64 `json:"tail,omitempty"`
	TailOf string  `json:"tail_of,omitempty"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	// Samples are in the order of measurement.
	Samples []float64 `json:"samples"`
}

// summarise computes the summary from the samples.
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

// label is the name of the operation with its subject.
func (m *Measurement) label() string { return label(m.Name, m.Subject) }

func label(name string, subject Subject) string {
	if subject == "" {
		return name
	}
	return name + " " + string(subject)
}

// showTail formats Tail, or returns "-" if there is none.
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

// median returns the middle value of sorted, or the mean of the middle two.
func median(sorted []float64) float64 {
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// rank returns the quantile q (0 < q <= 1) of sorted by nearest rank.
func rank(sorted []float64, q float64) float64 {
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}
