package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestBlocks checks that bash can parse every command, and that every block
// has a language that the tests know.
func TestBlocks(t *testing.T) {
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			if !slices.Contains([]string{"sh", "console", "python", "go", "js", "text", "json", "ini"}, b.lang) {
				t.Errorf("%s:%d: a block in the language %q: use sh, console, python, go, js, text, json or ini", p.name, b.line, b.lang)
			}
			if b.file == "" && (b.lang == "python" || b.lang == "go") {
				t.Errorf("%s:%d: a program that is in no file cannot be run", p.name, b.line)
			}
			if b.reason != "" && !b.shell() {
				t.Errorf("%s:%d: only commands are run", p.name, b.line)
			}
			if !b.shell() {
				continue
			}
			for _, s := range b.steps() {
				if s.command == "" {
					t.Errorf("%s:%d: a block of console begins with \"$ \"", p.name, s.line)
				}
				cmd := exec.Command("bash", "-n")
				cmd.Stdin = strings.NewReader(s.command)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%s:%d: bash cannot parse it: %s", p.name, s.line, out)
				}
			}
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	noSlug  = regexp.MustCompile("[^a-z0-9 _-]")
)

// anchors returns the names under which a page's headings can be linked.
func anchors(p page) []string {
	var out []string
	for _, m := range heading.FindAllStringSubmatch(p.prose, -1) {
		out = append(out, strings.ReplaceAll(noSlug.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return out
}

// TestLinks checks every link to a file or a heading, and that the README or
// the index of docs leads to every page.
func TestLinks(t *testing.T) {
	linked := map[string]bool{"README.md": true}
	for _, p := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(p.prose, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := p.name
			if file != "" {
				target = filepath.Join(filepath.Dir(p.name), file)
			}
			linked[target] = true
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s: the link %s leads to no file", p.name, m[1])
			} else if anchor != "" && !slices.Contains(anchors(parse(t, target)), anchor) {
				t.Errorf("%s: the link %s leads to no heading", p.name, m[1])
			}
		}
	}
	for _, p := range pages(t) {
		if !linked[p.name] {
			t.Errorf("no page links to %s", p.name)
		}
	}
}
