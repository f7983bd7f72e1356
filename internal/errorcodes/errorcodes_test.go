package errorcodes_test

import (
	"flag"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/errorcodes"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faulthttp"
)

var update = flag.Bool("update", false, "write docs/errors.md anew")

// passOn lists the files that make errors with the code of another error, or
// with a code from a table that the walk cannot read, and the number of such
// errors.
var passOn = map[string]int{
	"internal/control/hostfault.go":       2,
	"internal/control/common.go":          2, // withCleanup; sandbox_not_running, sandbox_not_paused
	"internal/control/fork.go":            1, // the code of the first child
	"internal/control/transition.go":      1, // sandbox_not_running, sandbox_not_paused
	"internal/control/rest/clocks.go":     1, // invalid_timeout, invalid_lifetime
	"internal/control/rest/system.go":     1,
	"internal/fault/faultrpc/faultrpc.go": 2,
	"internal/guest/agent/configure.go":   1,
	"internal/guestclient/faults.go":      1,
}

// byDefault are the codes of errors that nobody classified (fault.As).
var byDefault = []string{"internal", "timeout", "canceled"}

func TestEveryCodeOfTheSourceIsExplained(t *testing.T) {
	known, used := map[string]errorcodes.Entry{}, map[string]bool{}
	for _, e := range errorcodes.All() {
		known[e.Code] = e
	}
	for _, code := range byDefault {
		used[code] = true
	}
	unread := map[string]int{}
	for _, st := range readSource(t).sites() {
		if st.code == "" {
			file, _, _ := strings.Cut(st.where, ":")
			unread[file]++
			continue
		}
		used[st.code] = true
		e, ok := known[st.code]
		if !ok {
			t.Errorf("%s: the code %q is not in the table: add it to a file of internal/errorcodes, then run "+
				"go test ./internal/errorcodes -update", st.where, st.code)
			continue
		}
		if want := statusAt(st); !holds(e.Statuses, st, want) {
			t.Errorf("%s: the code %q comes with status %d here, the table has %v", st.where, st.code, want, e.Statuses)
		}
	}
	for file, n := range unread {
		if passOn[file] != n {
			t.Errorf("%s: %d errors have a code that is no constant, expected %d: use a constant, or count it in passOn", file, n, passOn[file])
		}
	}
	for code := range known {
		if !used[code] {
			t.Errorf("the code %q is in the table and nowhere in the source: take it out", code)
		}
	}
	if len(used) < 200 {
		t.Errorf("only %d codes were found: the walk does not see the source", len(used))
	}
}

// statusAt returns the HTTP status of st's kind, or 0 if it has none.
func statusAt(st site) int {
	for _, k := range fault.Kinds() {
		if strings.EqualFold(strings.ReplaceAll(k.String(), "_", ""), st.kind) {
			return faulthttp.Status(k)
		}
	}
	return 0
}

// holds reports whether an entry with these statuses covers st. Codes without a
// status are the operator's; a host's fault about itself may become 502; and three
// statuses have no kind.
func holds(statuses []int, st site, want int) bool {
	operators := strings.HasPrefix(st.pkg, "cmd/") || strings.HasPrefix(st.pkg, "internal/pgserver") || strings.HasPrefix(st.pkg, "internal/host")
	switch {
	case want == 0, slices.Contains(statuses, want):
		return true
	case len(statuses) == 0:
		return operators || st.kind == "Invalid" || st.kind == "Internal" || st.pkg == "internal/control/postgres"
	case operators:
		return slices.Contains(statuses, 502) || strings.HasPrefix(st.pkg, "cmd/")
	default:
		return want == 400 && (slices.Contains(statuses, 405) || slices.Contains(statuses, 415) || slices.Contains(statuses, 416) || slices.Contains(statuses, 422)) ||
			strings.HasPrefix(st.pkg, "internal/guest") && slices.Contains(statuses, 502)
	}
}

func TestEntriesAreWhole(t *testing.T) {
	code := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	seen := map[string]bool{}
	for _, e := range errorcodes.All() {
		if seen[e.Code] {
			t.Errorf("%s is there twice", e.Code)
		}
		seen[e.Code] = true
		if !code.MatchString(e.Code) || !strings.HasSuffix(e.Cause, ".") || !strings.HasSuffix(e.Remedy, ".") {
			t.Errorf("%+v: a code, a sentence and a sentence are wanted", e)
		}
		if !slices.IsSorted(e.Statuses) || len(e.Statuses) > 0 && (e.Statuses[0] < 400 || slices.Max(e.Statuses) > 599) {
			t.Errorf("%s: statuses %v", e.Code, e.Statuses)
		}
	}
}

// TestDocsAreCurrent: docs/errors.md equals the text generated from the table.
func TestDocsAreCurrent(t *testing.T) {
	const path = root + "/docs/errors.md"
	if *update {
		if err := os.WriteFile(path, []byte(errorcodes.Markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != errorcodes.Markdown() {
		t.Error("docs/errors.md is not what the table makes: run go test ./internal/errorcodes -update")
	}
}
