package bench

// panel is a group of measurements that share one axis.
type panel struct {
	title string
	unit  Unit
	rows  []Measurement
}

// panels returns the groups that have samples, in the order of the report.
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
