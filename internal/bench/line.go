package bench

import "math"

// Line describes how the time of an operation depends on the amount of memory or
// disk that was written before it.
type Line struct {
	Name string `json:"name"`
	// Subject is the runtime of the sandboxes.
	Subject Subject `json:"runtime,omitempty"`
	// Points are in the order in which they were taken.
	Points []Point `json:"points"`
	// Fit is nil if all points have the same amount.
	Fit *Fit `json:"fit"`
}

// Point is one sample of a Line.
type Point struct {
	DirtyMB float64 `json:"dirty_mb"` // MiB
	MS      float64 `json:"ms"`
}

// Fit is a straight line by least squares.
type Fit struct {
	SlopeMSPerMB float64 `json:"slope_ms_per_mb"`
	InterceptMS  float64 `json:"intercept_ms"`
	// R2 is the coefficient of determination: the share of the variance of the
	// times that the line explains. It is 1 if all points lie on the line, also
	// if all times are equal.
	R2 float64 `json:"r2"`
}

// fitLine fits a line to points by least squares. It returns nil unless there
// are two different amounts.
func fitLine(points []Point) *Fit {
	n := float64(len(points))
	var meanX, meanY float64
	for _, p := range points {
		meanX, meanY = meanX+p.DirtyMB/n, meanY+p.MS/n
	}
	var xx, xy, yy float64
	for _, p := range points {
		dx, dy := p.DirtyMB-meanX, p.MS-meanY
		xx, xy, yy = xx+dx*dx, xy+dx*dy, yy+dy*dy
	}
	if !severalAmounts(points) || xx == 0 {
		return nil
	}
	f := &Fit{SlopeMSPerMB: xy / xx, R2: 1}
	f.InterceptMS = meanY - f.SlopeMSPerMB*meanX
	if yy > 0 {
		// Rounding may push the quotient slightly above 1.
		f.R2 = math.Min(xy*xy/(xx*yy), 1)
	}
	return f
}

// severalAmounts reports whether the points have at least two different amounts.
// It compares them directly, because xx is subject to rounding.
func severalAmounts(points []Point) bool {
	for _, p := range points {
		if p.DirtyMB != points[0].DirtyMB {
			return true
		}
	}
	return false
}

// fitLines returns the lines of a run, fitted.
func (r *run) fitLines() (lines []Line) {
	for _, name := range []string{opPause, opResume, opForkMemory, opForkDisk} {
		if l := r.lines[name]; l != nil {
			l.Fit = fitLine(l.Points)
			lines = append(lines, *l)
		}
	}
	return lines
}
