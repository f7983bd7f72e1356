package cli

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Table collects rows and prints them aligned. At a terminal, columns that may
// be cut give way until a line fits; into a file everything is written whole.
type Table struct {
	app   *App
	names []string
	// flexible says of each column whether it may be cut.
	flexible []bool
	rows     [][]string
}

const (
	columnGap = 2
	// leastColumn is how far a column is cut at most, in characters.
	leastColumn = 5
)

// NewTable begins a table. A column whose name begins with "~" may be cut.
// Without columns there is no heading, and two columns that are never cut.
func (a *App) NewTable(columns ...string) *Table {
	t := &Table{app: a}
	for _, c := range columns {
		name, flexible := strings.CutPrefix(c, "~")
		t.names, t.flexible = append(t.names, name), append(t.flexible, flexible)
	}
	if len(columns) > 0 {
		t.Row(t.names...)
	}
	return t
}

// Row adds a row with a cell for each column.
func (t *Table) Row(cells ...string) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = printable(c)
	}
	t.rows = append(t.rows, row)
}

// Flush prints the table.
func (t *Table) Flush() error {
	widths := t.widths()
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			cell = cut(cell, widths[i])
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+columnGap))
			}
		}
		if _, err := fmt.Fprintln(t.app.io.Out, line.String()); err != nil {
			return err
		}
	}
	return nil
}

// widths returns the width of each column, in characters.
func (t *Table) widths() []int {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	if room := t.app.width(); room > 0 {
		t.shrink(widths, room)
	}
	return widths
}

// shrink makes the widest flexible column narrower until a line fits into room
// or nothing can give way.
func (t *Table) shrink(widths []int, room int) {
	total := columnGap * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	for ; total > room; total-- {
		widest := -1
		for i, flexible := range t.flexible {
			if flexible && widths[i] > leastColumn && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

// cut shortens s to n characters and marks that.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// width is that of the terminal, in characters; 0 is no terminal.
func (a *App) width() int {
	if a.io.Width == nil {
		return 0
	}
	return a.io.Width()
}
