// Command benchplot draws a report of "wrenn bench" as an SVG image: for each
// group of measurements, horizontal box plots over a logarithmic axis, and the
// times of pause, resume and fork over the memory or disk written.
//
//	benchplot REPORT.json PLOT.svg
//
// It is a module of its own, so that the product does not depend on the
// drawing library. scripts/bench.sh calls it.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// report is the part of a report that is drawn. Package bench writes it.
type report struct {
	Date         string        `json:"date"`
	Acceleration string        `json:"acceleration"`
	Measurements []measurement `json:"measurements"`
	Lines        []line        `json:"lines"`
}

type measurement struct {
	Name    string    `json:"name"`
	Runtime string    `json:"runtime"`
	Group   string    `json:"group"`
	Unit    string    `json:"unit"`
	Samples []float64 `json:"samples"`
}

// line is the times of one operation over the MiB that were written before it.
type line struct {
	Name    string  `json:"name"`
	Runtime string  `json:"runtime"`
	Points  []point `json:"points"`
	Fit     *fit    `json:"fit"`
}

type point struct {
	DirtyMB float64 `json:"dirty_mb"`
	MS      float64 `json:"ms"`
}

type fit struct {
	Slope     float64 `json:"slope_ms_per_mb"`
	Intercept float64 `json:"intercept_ms"`
}

// Sizes of the image.
const (
	width      = 10 * vg.Inch
	rowHeight  = 0.32 * vg.Inch
	panelFrame = 0.9 * vg.Inch // title and axis of a panel
	linesPanel = 4 * vg.Inch
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "benchplot:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: benchplot REPORT.json PLOT.svg")
	}
	data, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var r report
	if err := json.Unmarshal(data, &r); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	out, err := os.Create(args[1])
	if err != nil {
		return err
	}
	return errors.Join(r.draw(out), out.Close())
}

// panel is one plot with its height in the image.
type panel struct {
	*plot.Plot
	height vg.Length
}

// draw writes the image.
func (r report) draw(w io.Writer) error {
	panels, err := r.panels()
	if err != nil {
		return err
	}
	if len(panels) == 0 {
		return errors.New("the report has no samples")
	}
	var height vg.Length
	for _, p := range panels {
		height += p.height
	}
	image := vgsvg.New(width, height)
	top := height
	for _, p := range panels {
		area := draw.New(image)
		p.Draw(draw.Crop(area, 0, 0, top-p.height, top-height))
		top -= p.height
	}
	_, err = image.WriteTo(w)
	return err
}

// panels returns the groups in the order of the report, then the lines.
func (r report) panels() (panels []panel, err error) {
	var groups []string
	byGroup := make(map[string][]measurement)
	for _, m := range r.Measurements {
		// A logarithmic axis has no place for differences of nothing or less.
		m.Samples = slices.DeleteFunc(m.Samples, func(s float64) bool { return s <= 0 })
		if len(m.Samples) == 0 {
			continue
		}
		if byGroup[m.Group] == nil {
			groups = append(groups, m.Group)
		}
		byGroup[m.Group] = append(byGroup[m.Group], m)
	}
	for _, g := range groups {
		p, err := boxes(g, byGroup[g])
		if err != nil {
			return nil, err
		}
		panels = append(panels, panel{p, panelFrame + rowHeight*vg.Length(len(byGroup[g]))})
	}
	if len(r.Lines) > 0 {
		p, err := r.lines()
		if err != nil {
			return nil, err
		}
		panels = append(panels, panel{p, linesPanel})
	}
	if len(panels) > 0 {
		panels[0].Title.Text = r.Date + ", acceleration " + r.Acceleration + "\n" + panels[0].Title.Text
		panels[0].height += rowHeight
	}
	return panels, nil
}

// label is the name of an operation with its runtime.
func label(name, runtime string) string { return strings.TrimSpace(name + " " + runtime) }

// boxes draws one box plot for each measurement, the first at the top.
func boxes(title string, rows []measurement) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = title
	p.X.Label.Text = rows[0].Unit
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	names := make([]string, len(rows))
	for i, m := range rows {
		y := len(rows) - 1 - i
		names[y] = label(m.Name, m.Runtime)
		box, err := plotter.NewBoxPlot(rowHeight/2, float64(y), plotter.Values(m.Samples))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.Name, err)
		}
		box.Horizontal = true
		p.Add(box)
	}
	p.NominalY(names...)
	// Without a factor of two, noise would look large, and equal samples have
	// no width at all.
	if p.X.Max < 2*p.X.Min {
		p.X.Min, p.X.Max = p.X.Min/1.5, p.X.Max*1.5
	}
	return p, nil
}

// lines draws the points of each operation and the line through them.
func (r report) lines() (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = "Pause, resume and the window of a fork over the memory or disk written"
	p.X.Label.Text, p.Y.Label.Text = "MiB written", "ms"
	p.Legend.Top, p.Legend.Left = true, true
	for i, l := range r.Lines {
		xys := make(plotter.XYs, len(l.Points))
		for j, pt := range l.Points {
			xys[j].X, xys[j].Y = pt.DirtyMB, pt.MS
		}
		if len(xys) == 0 {
			continue
		}
		dots, err := plotter.NewScatter(xys)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.Name, err)
		}
		dots.Color = plotutil.Color(i)
		p.Add(dots)
		p.Legend.Add(label(l.Name, l.Runtime), dots)
		if f := l.Fit; f != nil {
			through := plotter.NewFunction(func(x float64) float64 { return f.Intercept + f.Slope*x })
			through.Color = plotutil.Color(i)
			p.Add(through)
		}
	}
	p.X.Min, p.Y.Min = 0, 0
	return p, nil
}
