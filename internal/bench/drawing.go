package bench

import (
	"encoding/xml"
	"fmt"
	"strings"
)

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
