package plan

import "slices"

// Images returns the references of the images in registries that p needs: those of its stages,
// and those from which steps take files. Each is there once, sorted.
func (p Plan) Images() []string {
	var out []string
	add := func(b *Base) {
		if b != nil && b.Image != "" {
			out = append(out, b.Image)
		}
	}
	p.each(add, func(c *Copy) { add(c.Base) })
	slices.Sort(out)
	return slices.Compact(out)
}

// TakesContext reports whether a step takes files from an uploaded archive.
func (p Plan) TakesContext() bool {
	takes := false
	p.each(func(*Base) {}, func(c *Copy) { takes = takes || c.Context != "" && len(c.Sources) > 0 })
	return takes
}

// each calls base with the base of each stage, and files with each COPY and each bind mount.
func (p Plan) each(base func(*Base), files func(*Copy)) {
	for _, stage := range p.Stages {
		base(&stage.From)
		for _, step := range stage.Steps {
			if step.Copy != nil {
				files(step.Copy)
			}
			if step.Run == nil {
				continue
			}
			for i := range step.Run.Binds {
				files(&step.Run.Binds[i])
			}
		}
	}
}
