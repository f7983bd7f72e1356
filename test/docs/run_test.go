package docs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// prelude defines the programs that a page may use and a test cannot: sudo
// (tests run as root) and systemctl (there is no unit).
const prelude = `
set -eEuo pipefail
sudo() { "$@"; }
systemctl() { curl -fsS -m 300 -X POST "$DOCS_CONTROL/$1"; }
`

// TestCommands runs the commands of all pages, in their order, against one
// server. Each page is one shell, so that variables last until its end.
func TestCommands(t *testing.T) {
	all := pages(t)
	in := install(t)
	for i, p := range all {
		steps := p.steps()
		if len(steps) == 0 {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			runPage(t, in, p, steps)
			if i < len(all)-1 { // the last page removes the server
				nothingLives(t, in)
			}
		})
	}
}

// steps returns the commands of a page that a test can run. A file that the
// page shows is written by a command.
func (p page) steps() []step {
	var out []step
	for _, b := range p.blocks {
		switch {
		case b.file != "":
			out = append(out, step{line: b.line, command: "mkdir -p " + filepath.Dir(b.file) + " && cat >" + b.file + " <<'END_OF_FILE'\n" + b.text + "END_OF_FILE\n"})
		case b.shell() && b.reason == "":
			out = append(out, b.steps()...)
		}
	}
	return out
}

// nothingLives checks that a page has destroyed its sandboxes and deleted its
// snapshots.
func nothingLives(t *testing.T, in *installation) {
	t.Helper()
	for _, args := range [][]string{{"ls", "-q"}, {"snapshot", "ls", "--json"}} {
		cmd := exec.CommandContext(t.Context(), in.bin, args...)
		cmd.Env = in.env()
		out, err := cmd.Output()
		if left := strings.Trim(string(out), "[] \n"); err != nil || left != "" {
			t.Errorf("wrenn %s after the page: %s (%v), want nothing", strings.Join(args, " "), left, err)
		}
	}
}

// env returns the environment of commands that use the installation.
func (in *installation) env() []string {
	return append(os.Environ(), "PATH="+filepath.Dir(in.bin)+":"+os.Getenv("PATH"),
		"WRENN_URL=http://"+in.addr, "WRENN_LISTEN="+in.addr, "WRENN_DATA_DIR="+in.dir, "DOCS_CONTROL="+in.control, "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
}

// runPage runs the commands of one page.
func runPage(t *testing.T, in *installation, p page, steps []step) {
	work, results := t.TempDir(), t.TempDir()
	script := prelude
	for i, s := range steps {
		script += fmt.Sprintf("{\n%s} >%s/%d 2>&1 </dev/null\n: >%s/%d.done\n", in.local(s.command), results, i, results, i)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-s")
	cmd.Dir, cmd.Stdin = work, strings.NewReader(script)
	cmd.Env = in.env()
	diag, err := cmd.CombinedOutput()
	for i, s := range steps {
		if !compare(t, in, p, s, filepath.Join(results, fmt.Sprint(i))) {
			return
		}
	}
	if err != nil || len(diag) > 0 {
		t.Errorf("%s: the shell ended with %v: %s", p.name, err, diag)
	}
}

// compare checks that a command succeeded, with the output that the page
// shows. file has the command's output.
func compare(t *testing.T, in *installation, p page, s step, file string) bool {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Errorf("%s:%d: the command was not reached: %s", p.name, s.line, s.command)
		return false
	}
	got := in.public(string(raw))
	if _, err := os.Stat(file + ".done"); err != nil {
		t.Errorf("%s:%d: the command failed: %s\n%s", p.name, s.line, s.command, got)
		return false
	}
	if s.shown && !matches(s.output, got) {
		t.Errorf("%s:%d: %s\ngot:\n%s\nwant:\n%s", p.name, s.line, s.command, got, s.output)
	}
	return true
}
