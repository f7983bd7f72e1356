package bench

import (
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// Geometry of the plot, in pixels.
const (
	plotWidth  = 960
	plotLeft   = 150 // names of operations end here
	plotRight  = 690 // axes end here, the numbers follow
	columnWide = 90  // of each number
	rowHeight  = 34
	panelHead  = 44 // title and axis of a panel
	plotHeader = 74
	plotFooter = 40
	dotRadius  = 2.6
)

// colours by shape.
var colours = map[Shape]string{Sequential: "#2563a8", Burst: "#c2570c", Without: "#6b7280"}

// panel is a group of measurements over one axis.
type panel struct {
	title string
	unit  Unit
	rows  []Measurement
}

// SVG draws every sample of the report as a dot, with a box from the first to
// the third quartile and a bar at the median, over logarithmic axes: one
// panel for times, one for throughputs, one for memory.
func (r *Report) SVG(w io.Writer) error {
	var panels []panel
	for _, p := range []panel{{title: "Time", unit: Milliseconds}, {title: "Throughput", unit: MiBPerSecond}, {title: "Memory", unit: MiB}} {
		for _, m := range r.Measurements {
			if m.Unit == p.unit && m.N > 0 {
				p.rows = append(p.rows, m)
			}
		}
		if len(p.rows) > 0 {
			panels = append(panels, p)
		}
	}
	height := plotHeader + plotFooter
	for _, p := range panels {
		height += panelHead + rowHeight*len(p.rows)
	}
	d := &drawing{}
	d.add(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="13">`,
		plotWidth, height, plotWidth, height)
	d.add(`<rect width="100%%" height="100%%" fill="#ffffff"/>`)
	r.drawHeader(d)
	y := plotHeader
	for _, p := range panels {
		p.draw(d, y)
		y += panelHead + rowHeight*len(p.rows)
	}
	d.text(style{x: 20, y: y + 24, colour: "#6b7280", size: 12},
		"Each dot is one sample; box: middle half; bar: median. Numbers of one run on one machine.")
	d.add(`</svg>`)
	_, err := io.WriteString(w, d.b.String())
	return err
}

func (r *Report) drawHeader(d *drawing) {
	d.text(style{x: 20, y: 28, colour: "#111827", size: 17},
		fmt.Sprintf("wrenn %s, acceleration %s, %s", r.Versions.Wrenn, r.Acceleration, r.Date.Format("2006-01-02")))
	d.text(style{x: 20, y: 48, colour: "#6b7280", size: 12}, fmt.Sprintf("%s, %d cores, Linux %s, %s, guest kernel %s, load %.1f at start, %.1f at most",
		r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Versions.VMM, r.Versions.GuestKernel, r.Machine.Load1, r.Machine.peakLoad()))
	x := 20
	for _, s := range []struct {
		shape Shape
		label string
	}{{Sequential, "one at a time"}, {Burst, "all at once"}, {Without, "bare QEMU, no Wrenn"}} {
		d.add(`<circle cx="%d" cy="64" r="4" fill="%s"/>`, x+4, colours[s.shape])
		d.text(style{x: x + 14, y: 68, colour: "#374151", size: 12}, s.label)
		x += 40 + 7*len(s.label)
	}
}

// draw puts the panel below y.
func (p panel) draw(d *drawing, y int) {
	low, high := math.Inf(1), 0.0
	for _, m := range p.rows {
		low, high = min(low, m.Min), max(high, m.Max)
	}
	a := newAxis(low, high)
	bottom := y + panelHead + rowHeight*len(p.rows)
	d.text(style{x: 20, y: y + 32, colour: "#111827", size: 14}, p.title)
	for i, head := range []string{"median", tailName(p.unit), "n"} {
		d.text(style{x: column(i), y: y + 32, colour: "#6b7280", size: 11, anchor: "end"}, head)
	}
	for _, tick := range a.ticks {
		x := a.at(tick)
		d.add(`<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#e5e7eb"/>`, x, y+panelHead-6, x, bottom-4)
		d.text(style{x: int(x), y: y + 32, colour: "#6b7280", size: 11, anchor: "middle"}, tickLabel(tick, p.unit))
	}
	for i, m := range p.rows {
		drawRow(d, a, m, y+panelHead+rowHeight*i+rowHeight/2)
	}
}

// drawRow draws one measurement around the height y.
func drawRow(d *drawing, a axis, m Measurement, y int) {
	colour := colours[m.Shape]
	sorted := slices.Sorted(slices.Values(m.Samples))
	left, right := a.at(rank(sorted, 0.25)), a.at(rank(sorted, 0.75))
	d.text(style{x: plotLeft - 12, y: y + 4, colour: "#111827", anchor: "end"}, m.Name)
	d.add(`<rect x="%.1f" y="%d" width="%.1f" height="18" rx="2" fill="%s" fill-opacity="0.16"/>`, left-1, y-9, right-left+2, colour)
	for i, s := range m.Samples {
		// Spread evenly over the row, in the order in which they were taken.
		dy := 16 * (float64(i*7%len(m.Samples))/float64(len(m.Samples)) - 0.5)
		d.add(`<circle cx="%.1f" cy="%.1f" r="%.1f" fill="%s" fill-opacity="0.55"/>`, a.at(s), float64(y)+dy, dotRadius, colour)
	}
	d.add(`<rect x="%.1f" y="%d" width="2.4" height="22" fill="%s"/>`, a.at(m.Median)-1.2, y-11, colour)
	for i, number := range []string{show(m.Median, m.Unit), show(m.Tail, m.Unit), fmt.Sprint(m.N)} {
		d.text(style{x: column(i), y: y + 4, colour: "#111827", anchor: "end"}, number)
	}
}

// column is where the numbers of column i end.
func column(i int) int { return plotRight + columnWide*(i+1) - i*i*10 }

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

func (a axis) at(v float64) float64 {
	share := (math.Log10(max(v, 1e-3)) - a.low) / (a.high - a.low)
	return plotLeft + share*(plotRight-plotLeft)
}

func tickLabel(v float64, u Unit) string {
	if u == Milliseconds && v >= 1000 {
		return fmt.Sprintf("%g s", v/1000)
	}
	return fmt.Sprintf("%g %s", math.Round(v*1000)/1000, u)
}

// drawing is an SVG in the making.
type drawing struct{ b strings.Builder }

func (d *drawing) add(format string, args ...any) { fmt.Fprintf(&d.b, format+"\n", args...) }

// style is where and how a text stands.
type style struct {
	x, y   int
	colour string
	size   int    // 0 is the drawing's
	anchor string // "" is "start"
}

func (d *drawing) text(s style, text string) {
	var escaped strings.Builder
	_ = xml.EscapeText(&escaped, []byte(text)) // a Builder never fails
	size, anchor := "", ""
	if s.size > 0 {
		size = fmt.Sprintf(` font-size="%d"`, s.size)
	}
	if s.anchor != "" {
		anchor = fmt.Sprintf(` text-anchor="%s"`, s.anchor)
	}
	d.add(`<text x="%d" y="%d" fill="%s"%s%s>%s</text>`, s.x, s.y, s.colour, size, anchor, escaped.String())
}
