package docs

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/errorcodes"
)

// source returns the text of every file of the tree that can define a name
// that a page mentions. The pages and their tests are left out.
func source(t testing.TB) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{".git", "node_modules", "docs", "bin"}, d.Name()) {
			return filepath.SkipDir
		}
		if !slices.Contains([]string{".go", ".sh", ".yaml", ".proto", ".sql"}, filepath.Ext(path)) && d.Name() != "Makefile" {
			return nil
		}
		raw, err := os.ReadFile(path)
		all.Write(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

var (
	codeSpan   = regexp.MustCompile("`([^`\n]+)`")
	snakeCase  = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)+$`)
	withStatus = regexp.MustCompile("\\b([45]\\d\\d) `([a-z_]+)`")
	variable   = regexp.MustCompile(`\bWRENN_[A-Z_]+\b`)
	endpoint   = regexp.MustCompile(`^(?:(GET|POST|PUT|PATCH|DELETE) )?(/(?:v1|healthz|readyz|docs|openapi\.yaml)(?:/[^ ?]*)?)$`)
	treePath   = regexp.MustCompile(`\b(?:api|bench|client|cmd|deploy|docs|internal|scripts|test|tools)/[A-Za-z0-9_./-]*[A-Za-z0-9]`)
	dataPath   = regexp.MustCompile(`/var/lib/wrenn/([a-z.-]+)`)
)

// foreign lists names of other programs, of the kernel and of Dockerfiles.
var foreign = []string{"--mount", "--chown", "--chmod", "--exclude", "--parents", "no_new_privs", "io_uring", "pg_upgradecluster", "--format", "--sparse"}

// TestNames checks the names in every page: codes and fields, statuses of
// codes, variables, endpoints, files of the tree and of the data directory.
func TestNames(t *testing.T) {
	code, contract := source(t), readFile(t, "api/openapi.yaml")
	// The code interpreter's own protocol.
	for _, name := range []string{"server.py", "code_interpreter.py"} {
		contract += readFile(t, "internal/host/image/interpreter/"+name)
	}
	statuses := map[string][]int{}
	for _, e := range errorcodes.All() {
		statuses[e.Code] = e.Statuses
	}
	for _, p := range pages(t) {
		for _, m := range codeSpan.FindAllStringSubmatch(p.prose, -1) {
			span := m[1]
			if _, isCode := statuses[span]; snakeCase.MatchString(span) && !isCode && !slices.Contains(foreign, span) && !strings.Contains(contract, span) {
				t.Errorf("%s: `%s` is neither an error code nor a name of the API", p.name, span)
			}
			if m := endpoint.FindStringSubmatch(span); m != nil && !served(contract, code, m[1], m[2]) {
				t.Errorf("%s: `%s` is not an endpoint", p.name, span)
			}
			for _, path := range treePath.FindAllString(span, -1) {
				if _, err := os.Stat(filepath.Join(root, path)); err != nil && !strings.Contains(span, "/"+path) {
					t.Errorf("%s: `%s`: there is no %s", p.name, span, path)
				}
			}
		}
		for _, m := range withStatus.FindAllStringSubmatch(p.prose, -1) {
			if status, _ := strconv.Atoi(m[1]); !slices.Contains(statuses[m[2]], status) {
				t.Errorf("%s: %s comes with %v, not with %d", p.name, m[2], statuses[m[2]], status)
			}
		}
		for _, name := range variable.FindAllString(p.text, -1) {
			flag := "--" + strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, "WRENN_")), "_", "-")
			if !strings.Contains(code, name) && !strings.Contains(help(t, "up")+help(t, "server")+help(t, "agent"), flag+" ") {
				t.Errorf("%s: nothing reads %s", p.name, name)
			}
		}
		for _, m := range dataPath.FindAllStringSubmatch(p.text, -1) {
			if !strings.Contains(code, `"`+strings.TrimSuffix(m[1], ".")+`"`) {
				t.Errorf("%s: the data directory has no %s", p.name, m[1])
			}
		}
	}
}

// served reports whether the server has the endpoint. A method of "" is any.
func served(contract, code, method, path string) bool {
	if strings.HasPrefix(path, "/docs") {
		return strings.Contains(code, `r.Get("`+path+`"`)
	}
	_, rest, found := strings.Cut(contract, "\n  "+path+":\n")
	if !found {
		return false
	}
	if end := regexp.MustCompile(`(?m)^ {0,2}\S`).FindStringIndex(rest); end != nil {
		rest = rest[:end[0]]
	}
	return method == "" || strings.Contains(rest, "\n    "+strings.ToLower(method)+":") || strings.HasPrefix(rest, "    "+strings.ToLower(method)+":")
}

// helps keeps the help of commands that were asked for.
var helps = map[string]string{}

// help returns the help of a command of wrenn, such as "key create".
func help(t testing.TB, command string) string {
	t.Helper()
	if text, ok := helps[command]; ok {
		return text
	}
	out, err := exec.Command(binary(t), append([]string{"help"}, strings.Fields(command)...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("wrenn help %s: %v\n%s", command, err, out)
	}
	helps[command] = string(out)
	return helps[command]
}

// hasSubcommand reports whether the help of a command lists word as a command.
func hasSubcommand(text, word string) bool {
	return regexp.MustCompile(`(?m)^  ` + regexp.QuoteMeta(word) + ` +[A-Z]`).MatchString(text)
}

// checkCalls reports calls of wrenn and make in commands that have a
// subcommand, a flag or a target that does not exist.
func checkCalls(t testing.TB, where, commands string) {
	t.Helper()
	commands = strings.ReplaceAll(commands, "\\\n", " ")
	for _, call := range regexp.MustCompile("[\n|;&()`]+").Split(commands, -1) {
		words := strings.Fields(call)
		for i, word := range words {
			switch {
			case word == "wrenn" || strings.HasSuffix(word, "/wrenn") && !strings.HasSuffix(word, "/lib/wrenn"):
				if i == 0 || words[i-1] == "sudo" || strings.Contains(words[i-1], "=") {
					checkWrenn(t, where, words[i+1:])
				}
			case word == "make" && i+1 < len(words) && (i == 0 || words[i-1] == "sudo"):
				if target := words[i+1]; !strings.Contains(readFile(t, "Makefile"), "\n"+target+":") {
					t.Errorf("%s: the Makefile has no target %s", where, target)
				}
			}
		}
	}
}

// flagsOf splits a word of short flags, such as -it.
func flagsOf(word string) (flags []string) {
	if !regexp.MustCompile(`^-[a-z]+$`).MatchString(word) {
		return []string{word}
	}
	for _, letter := range word[1:] {
		flags = append(flags, "-"+string(letter))
	}
	return flags
}

// checkWrenn checks subcommand and flags of one call of wrenn.
func checkWrenn(t testing.TB, where string, words []string) {
	t.Helper()
	command := ""
	for len(words) > 0 && hasSubcommand(help(t, command), words[0]) {
		command = strings.TrimSpace(command + " " + words[0])
		words = words[1:]
	}
	if len(words) > 0 && strings.Contains(help(t, command), " [command]\n") && regexp.MustCompile(`^[a-z]+$`).MatchString(words[0]) {
		t.Errorf("%s: wrenn has no command %s", where, strings.TrimSpace(command+" "+words[0]))
	}
	if command == "" {
		return
	}
	for _, word := range words {
		name, _, _ := strings.Cut(strings.Trim(word, `"',.`), "=")
		if name == "--" || name == "#" {
			return
		}
		if !strings.HasPrefix(name, "-") || name == "-" || name == "--help" {
			continue
		}
		for _, flag := range flagsOf(name) {
			if !regexp.MustCompile(`(?m)^ +(-[a-z], )?` + regexp.QuoteMeta(flag) + `\b|^ +` + regexp.QuoteMeta(flag) + `, `).MatchString(help(t, command)) {
				t.Errorf("%s: wrenn %s has no flag %s", where, command, flag)
			}
		}
	}
}

// TestCalls checks every call of wrenn and make in blocks and in the prose, and
// every flag that the prose names alone.
func TestCalls(t *testing.T) {
	var all strings.Builder
	for _, command := range []string{"up", "server", "agent", "create", "run", "exec", "fork", "doctor", "gc", "image build", "uninstall", "down", "pause", "bench", "files sign", "template build"} {
		all.WriteString(help(t, command))
	}
	for _, p := range append(pages(t), parse(t, "docs/errors.md")) {
		for _, b := range p.blocks {
			if b.shell() {
				for _, s := range b.steps() {
					checkCalls(t, fmt.Sprintf("%s:%d", p.name, s.line), s.command)
				}
			}
		}
		for _, m := range codeSpan.FindAllStringSubmatch(p.prose, -1) {
			checkCalls(t, p.name, m[1])
			if name, _, _ := strings.Cut(strings.Fields(m[1])[0], "="); strings.HasPrefix(name, "--") && !slices.Contains(foreign, name) && !strings.Contains(all.String(), name+" ") {
				t.Errorf("%s: no command has the flag %s", p.name, name)
			}
		}
	}
}
