package bench

import (
	"fmt"
	"math"
)

// axis is a logarithmic axis between plotLeft and plotRight.
type axis struct {
	low, high float64 // logarithms
	ticks     []float64
}

// newAxis covers all from low to high, with ticks at 1, 2 and 5 of each decade.
func newAxis(low, high float64) axis {
	low = max(low, 1e-3)
	high = max(high, low)
	if high < 2*low { // at least a factor of two, so that noise does not look large
		middle := math.Sqrt(low * high)
		low, high = middle/math.Sqrt2, middle*math.Sqrt2
	}
	a := axis{low: math.Log10(low) - 0.06, high: math.Log10(high) + 0.06}
	steps := []float64{1, 2, 5}
	if a.high-a.low > 2 {
		steps = []float64{1}
	}
	for decade := math.Floor(a.low); decade <= a.high; decade++ {
		for _, s := range steps {
			tick := s * math.Pow(10, decade)
			if l := math.Log10(tick); l >= a.low && l <= a.high {
				a.ticks = append(a.ticks, tick)
			}
		}
	}
	return a
}

// at is where v is drawn; what lies below the axis, as differences may, is
// drawn at its begin.
func (a axis) at(v float64) float64 {
	share := max((math.Log10(max(v, 1e-3))-a.low)/(a.high-a.low), 0)
	return plotLeft + share*(plotRight-plotLeft)
}

func tickLabel(v float64, u Unit) string {
	if u == Milliseconds && v >= 1000 {
		return fmt.Sprintf("%g s", v/1000)
	}
	return fmt.Sprintf("%g %s", math.Round(v*1000)/1000, u)
}
