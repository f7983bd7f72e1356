package bench

import (
	"fmt"
	"math"
)

// Geometry of the scatter panel, in pixels.
const (
	scatterHeight = 366
	scatterPlot   = 220 // of the axes
)

var lineColours = map[string]string{opPause: "#2563a8", opResume: "#0f766e", opForkMemory: "#b45309", opForkDisk: "#7c3aed"}

// scatter draws times over memory, with linear axes from zero.
type scatter struct {
	lines        []Line
	highX, highY float64
}

// newScatter covers all points and lines. Its axes have a length even without any.
func newScatter(lines []Line) scatter {
	s := scatter{lines: lines, highX: 1, highY: 1}
	for _, l := range lines {
		for _, p := range l.Points {
			s.highX, s.highY = max(s.highX, p.DirtyMB), max(s.highY, p.MS)
		}
	}
	s.highX *= 1.05
	for _, l := range lines {
		if l.Fit != nil {
			s.highY = max(s.highY, l.Fit.at(0), l.Fit.at(s.highX))
		}
	}
	s.highY *= 1.05
	return s
}

// draw puts the panel below y.
func (s scatter) draw(d *drawing, y int) {
	top := y + panelHead
	d.text(style{x: 20, y: y + 32, colour: "#111827", size: 14}, "Pause, resume and the window of a fork over what was written")
	x := func(v float64) float64 { return plotLeft + v/s.highX*(plotRight-plotLeft) }
	h := func(v float64) float64 { return float64(top+scatterPlot) - v/s.highY*scatterPlot }
	for _, tick := range linearTicks(s.highY) {
		d.add(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#e5e7eb"/>`, plotLeft, h(tick), plotRight, h(tick))
		d.text(style{x: plotLeft - 12, y: int(h(tick)) + 4, colour: "#6b7280", size: 11, anchor: "end"}, tickLabel(tick, Milliseconds))
	}
	for _, tick := range linearTicks(s.highX) {
		d.add(`<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#e5e7eb"/>`, x(tick), top, x(tick), top+scatterPlot)
		d.text(style{x: int(x(tick)), y: top + scatterPlot + 16, colour: "#6b7280", size: 11, anchor: "middle"}, tickLabel(tick, MiB))
	}
	for i, l := range s.lines {
		s.drawLine(d, l, x, h)
		d.add(`<circle cx="%d" cy="%d" r="4" fill="%s"/>`, plotLeft+4, top+scatterPlot+34+18*i, lineColours[l.Name])
		d.text(style{x: plotLeft + 14, y: top + scatterPlot + 38 + 18*i, colour: "#374151", size: 12}, l.label())
	}
}

// drawLine draws the samples of a line and, where there is one, the line from
// nothing written to the end of the axis, as far as it is above zero.
func (s scatter) drawLine(d *drawing, l Line, x, h func(float64) float64) {
	colour := lineColours[l.Name]
	for _, p := range l.Points {
		d.add(`<circle cx="%.1f" cy="%.1f" r="%.1f" fill="%s" fill-opacity="0.55"/>`, x(p.DirtyMB), h(p.MS), dotRadius, colour)
	}
	if l.Fit == nil {
		return
	}
	from, to := l.Fit.above(s.highX)
	d.add(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="1.5"/>`,
		x(from), h(l.Fit.at(from)), x(to), h(l.Fit.at(to)), colour)
}

func (l *Line) label() string {
	if l.Fit == nil {
		return l.Name
	}
	return fmt.Sprintf("%s: %s", l.Name, l.describe())
}

// linearTicks are some four to ten round numbers from 0 to high.
func linearTicks(high float64) (ticks []float64) {
	step := math.Pow(10, math.Floor(math.Log10(high/4)))
	for _, factor := range []float64{5, 2} {
		if high/(step*factor) >= 4 {
			step *= factor
			break
		}
	}
	for i := 0.0; i*step <= high; i++ {
		ticks = append(ticks, i*step)
	}
	return ticks
}
