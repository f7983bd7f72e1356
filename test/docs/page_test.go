package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the repository's root, relative to this package.
const root = "../.."

// page is a Markdown file of the documentation.
type page struct {
	name   string // path from the repository's root
	text   string // whole source
	prose  string // source without fenced blocks
	blocks []block
}

// block is a fenced code block.
type block struct {
	line   int    // line of the opening fence, from 1
	lang   string // info string of the fence
	file   string // name of the file that the block shows, or ""
	reason string // why no test runs it, or "" if the test runs it
	text   string
}

// shell reports whether the block holds commands.
func (b block) shell() bool { return b.lang == "sh" || b.lang == "console" }

var directive = regexp.MustCompile(`^<!-- (not run|file): (.+) -->$`)

// parse splits a page into prose and fenced blocks.
func parse(t testing.TB, name string) page {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	p := page{name: name, text: string(raw)}
	var prose strings.Builder
	var open *block
	var mark []string
	for i, line := range strings.Split(p.text, "\n") {
		switch {
		case open != nil && line == "```":
			p.blocks = append(p.blocks, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		case strings.HasPrefix(line, "```"):
			open = &block{line: i + 1, lang: strings.TrimPrefix(line, "```")}
			open.mark(mark)
			mark = nil
		default:
			mark = directive.FindStringSubmatch(line)
			prose.WriteString(line)
		}
		prose.WriteByte('\n')
	}
	if open != nil {
		t.Fatalf("%s:%d: the block is not closed", name, open.line)
	}
	p.prose = prose.String()
	return p
}

// mark applies a matched directive to the block that follows it.
func (b *block) mark(directive []string) {
	switch {
	case directive == nil:
	case directive[1] == "file":
		b.file = directive[2]
	default:
		b.reason = directive[2]
	}
}

// generated lists pages that other tests generate and compare.
var generated = []string{"docs/errors.md", "docs/crash-points.md"}

// pages returns every written page, in the order in which their commands run.
// The last one ends with the removal of the installation.
func pages(t testing.TB) []page {
	t.Helper()
	names := []string{"README.md"}
	found, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(found) < 8 {
		t.Fatalf("docs has the pages %v (%v), want at least 8", found, err)
	}
	const last = "docs/production.md"
	for _, file := range found {
		if name := "docs/" + filepath.Base(file); name != last && !slices.Contains(generated, name) {
			names = append(names, name)
		}
	}
	out := make([]page, 0, len(names)+1)
	for _, name := range append(names, last) {
		out = append(out, parse(t, name))
	}
	return out
}

// step is one command of a block, with the output that the page shows.
type step struct {
	line    int
	command string
	shown   bool // whether the page shows the output
	output  string
}

// steps returns the commands of a block: a "console" block has one at each
// "$ ", continued by lines with "> "; a "sh" block is one command.
func (b block) steps() []step {
	if b.lang == "sh" {
		return []step{{line: b.line + 1, command: b.text}}
	}
	var out []step
	for i, line := range strings.Split(strings.TrimSuffix(b.text, "\n"), "\n") {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			out = append(out, step{line: b.line + 1 + i, command: command + "\n", shown: true})
			continue
		}
		if len(out) == 0 {
			out = append(out, step{line: b.line + 1 + i, shown: true})
		}
		last := &out[len(out)-1]
		if more, ok := strings.CutPrefix(line, "> "); ok && last.output == "" {
			last.command += more + "\n"
		} else {
			last.output += line + "\n"
		}
	}
	return out
}
