package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
)

// Geometry of the plot, in pixels.
const (
	plotWidth  = 1000
	plotLeft   = 190 // names of operations end here
	plotRight  = 730 // axes end here, the numbers follow
	columnWide = 90  // of each number
	rowHeight  = 34
	panelHead  = 44 // title and axis of a panel
	panelFoot  = 6
	plotHeader = 74
	plotFooter = 40
	dotRadius  = 2.6
)

// colours by shape.
var colours = map[Shape]string{Sequential: "#2563a8", Staggered: "#7c3aed", Burst: "#c2570c", Without: "#6b7280"}

// panel is a group of measurements over one axis.
type panel struct {
	title string
	unit  Unit
	rows  []Measurement
}

// panels are the groups that have samples.
func (r *Report) panels() (panels []panel) {
	for _, g := range groups {
		p := panel{title: string(g)}
		for _, m := range r.Measurements {
			if m.Group == g && m.N > 0 {
				p.rows, p.unit = append(p.rows, m), m.Unit
			}
		}
		if len(p.rows) > 0 {
			panels = append(panels, p)
		}
	}
	return panels
}

func (p panel) height() int { return panelHead + rowHeight*len(p.rows) + panelFoot }

// SVG draws every sample of the report as a dot, with a box from the first to
// the third quartile and a bar at the median, over a logarithmic axis for each
// group; and the lines of pause, resume and fork windows over what was written, on
// linear axes.
func (r *Report) SVG(w io.Writer) error {
	panels := r.panels()
	height := plotHeader + plotFooter
	for _, p := range panels {
		height += p.height()
	}
	if len(r.Lines) > 0 {
		height += scatterHeight
	}
	d := &drawing{}
	d.add(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="13">`,
		plotWidth, height, plotWidth, height)
	d.add(`<rect width="100%%" height="100%%" fill="#ffffff"/>`)
	r.drawHeader(d)
	y := plotHeader
	for _, p := range panels {
		p.draw(d, y)
		y += p.height()
	}
	if len(r.Lines) > 0 {
		newScatter(r.Lines).draw(d, y)
		y += scatterHeight
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
	}{{Sequential, "one at a time"}, {Staggered, "one after another, overlapping"}, {Burst, "all at once"}, {Without, "bare QEMU, no Wrenn"}} {
		d.add(`<circle cx="%d" cy="64" r="4" fill="%s"/>`, x+4, colours[s.shape])
		d.text(style{x: x + 14, y: 68, colour: "#374151", size: 12}, s.label)
		x += 40 + 7*len(s.label)
	}
}

// draw puts the panel below y.
func (p panel) draw(d *drawing, y int) {
	a := newAxis(p.extent())
	bottom := y + p.height() - panelFoot
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

// extent is what the axis has to cover: differences that came out as nothing
// or less have no place on a logarithmic one.
func (p panel) extent() (low, high float64) {
	low = math.Inf(1)
	for _, m := range p.rows {
		for _, s := range m.Samples {
			if s > 0 {
				low, high = min(low, s), max(high, s)
			}
		}
	}
	if high == 0 {
		return 1, 1
	}
	return low, high
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
	for i, number := range []string{show(m.Median, m.Unit), m.showTail(), fmt.Sprint(m.N)} {
		d.text(style{x: column(i), y: y + 4, colour: "#111827", anchor: "end"}, number)
	}
}

// column is where the numbers of column i end.
func column(i int) int { return plotRight + columnWide*(i+1) - i*i*10 }
