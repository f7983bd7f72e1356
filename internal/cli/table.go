package cli

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Table collects rows and prints them aligned. At a terminal, it leaves out
// optional columns and shortens flexible ones until a line fits. In a file every
// column is complete.
type Table struct {
	app      *App
	flexible []bool // by column: may be shortened
	optional []bool // by column: may be left out
	rows     [][]string
}

const (
	columnGap = 2
	// leastColumn is the least width of a shortened column, in characters.
	leastColumn = 5
	// fairColumn is the width of a flexible column, in characters, below which an
	// optional column is left out instead.
	fairColumn = 8
)

// NewTable begins a table. A column whose name begins with "~" is flexible: it may
// be shortened. One that begins with "?" is optional: it may be left out. Ids are
// neither. Without columns there is no heading, and every column is complete.
func (a *App) NewTable(columns ...string) *Table {
	t := &Table{app: a}
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = strings.TrimLeft(c, "~?")
		t.flexible, t.optional = append(t.flexible, c[0] == '~'), append(t.optional, c[0] == '?')
	}
	if len(columns) > 0 {
		t.Row(names...)
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
			if widths[i] == 0 {
				continue
			}
			cell = cut(cell, widths[i])
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+columnGap))
			}
		}
		if _, err := fmt.Fprintln(t.app.io.Out, strings.TrimRight(line.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// widths returns the width of each column, in characters; 0 means that the column
// is left out.
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
		t.leaveOut(widths, room)
		t.shrink(widths, room)
	}
	return widths
}

// leaveOut sets the widths of optional columns to 0, from the left, until a line
// fits into room with its flexible columns shortened.
func (t *Table) leaveOut(widths []int, room int) {
	for i, optional := range t.optional {
		least := make([]int, len(widths))
		for j, w := range widths {
			if least[j] = w; t.flexible[j] {
				least[j] = min(w, fairColumn)
			}
		}
		if lineWidth(least) <= room {
			return
		}
		if optional {
			widths[i] = 0
		}
	}
}

// lineWidth returns the width of a line with columns of these widths.
func lineWidth(widths []int) int {
	total := -columnGap
	for _, w := range widths {
		if w > 0 {
			total += w + columnGap
		}
	}
	return total
}

// shrink shortens the widest flexible column until a line fits into room or no
// column can be shortened further.
func (t *Table) shrink(widths []int, room int) {
	for total := lineWidth(widths); total > room; total-- {
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

// width returns the width of the terminal, in characters; 0 means no terminal.
func (a *App) width() int {
	if a.io.Width == nil {
		return 0
	}
	return a.io.Width()
}
