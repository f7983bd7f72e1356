package runtimes

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the findings into docs/runtimes.md instead of comparing them")

const document = "../../docs/runtimes.md"

// agrees compares a part of docs/runtimes.md with the findings of a test, or replaces
// it. Two comments in the document enclose the part.
func agrees(t *testing.T, part, found string) {
	t.Helper()
	data, err := os.ReadFile(document)
	check(t, err)
	begin, end := fmt.Sprintf("<!-- %s: written by a test -->\n", part), fmt.Sprintf("<!-- end of %s -->\n", part)
	before, rest, ok := strings.Cut(string(data), begin)
	inside, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("docs/runtimes.md has no part %s between %q and %q", part, begin, end)
	}
	if *update {
		check(t, os.WriteFile(document, []byte(before+begin+found+end+after), 0o644))
		return
	}
	if diff := cmp.Diff(strings.Split(inside, "\n"), strings.Split(found, "\n")); diff != "" {
		t.Errorf("docs/runtimes.md does not say what sandboxes of this build do (-document +found); "+
			"\"go test ./test/runtimes -update\" writes it:\n%s", diff)
	}
}
