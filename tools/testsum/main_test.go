package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	const p = `"Package":"example.org/o/m/internal/a"`
	for name, test := range map[string]struct {
		input string
		must  []string
		want  string // the last line
		says  string
		ok    bool
	}{
		"all passed, subtests counted": {
			input: `{"Action":"pass",` + p + `,"Test":"T/one"}` + "\n" + `{"Action":"pass",` + p + `,"Test":"T"}` + "\n" + `{"Action":"pass",` + p + `}`,
			must:  []string{"internal/a"}, want: "2 passed, 0 failed, 0 skipped", says: "ok      internal/a (2 tests", ok: true,
		},
		"a failure is shown": {
			input: `{"Action":"output",` + p + `,"Test":"T","Output":"because\n"}` + "\n" + `{"Action":"fail",` + p + `,"Test":"T"}` + "\n" + `{"Action":"fail",` + p + `}`,
			want:  "0 passed, 1 failed, 0 skipped", says: "because",
		},
		"a package that does not compile": {
			input: `{"ImportPath":"x","Action":"build-output","Output":"syntax error\n"}` + "\n" + `{"ImportPath":"x","Action":"build-fail"}` + "\n" + `{"Action":"fail",` + p + `}`,
			want:  "0 passed, 1 failed, 0 skipped", says: "syntax error",
		},
		"the output of a test whose process ended is shown": {
			input: `{"Action":"output",` + p + `,"Test":"T","Output":"panic: oops\n"}` + "\n" + `{"Action":"output",` + p + `,"Output":"FAIL\n"}` + "\n" + `{"Action":"fail",` + p + `}`,
			want:  "0 passed, 1 failed, 0 skipped", says: "panic: oops",
		},
		"a test that did not end is named": {
			input: `{"Action":"output",` + p + `,"Test":"T","Output":"=== RUN   T\n"}` + "\n" + `{"Action":"fail",` + p + `}`,
			want:  "0 passed, 1 failed, 0 skipped", says: "did not end: internal/a T\n",
		},
		"a skip tells why": {
			input: `{"Action":"output",` + p + `,"Test":"S","Output":"    a_test.go:9: no VM here\n"}` + "\n" + `{"Action":"output",` + p + `,"Test":"S","Output":"--- SKIP: S\n"}` + "\n" +
				`{"Action":"skip",` + p + `,"Test":"S"}` + "\n" + `{"Action":"pass",` + p + `,"Test":"T"}`,
			want: "1 passed, 0 failed, 1 skipped", says: "skipped: internal/a S: a_test.go:9: no VM here", ok: true,
		},
		"a suite that only skipped did not run": {
			input: `{"Action":"skip",` + p + `,"Test":"S"}` + "\n" + `{"Action":"pass","Package":"example.org/o/m/b","Test":"T"}`,
			must:  []string{"internal/a"}, want: "1 passed, 0 failed, 1 skipped", says: "did not run: internal/a",
		},
		"nothing at all": {
			input: "go: cannot find main module\n", want: "0 passed, 0 failed, 0 skipped", says: "cannot find main module",
		},
	} {
		var out strings.Builder
		s := newSummary(&out)
		if err := s.read(strings.NewReader(test.input)); err != nil {
			t.Fatal(err)
		}
		ok := s.finish(test.must)
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if ok != test.ok || lines[len(lines)-1] != test.want || !strings.Contains(out.String(), test.says) {
			t.Errorf("%s: %v\n%s", name, ok, out.String())
		}
	}
}

// TestSourcesAreApart: the end of one run of a package ends no test of another run
// of it, and a run that failed without a failed test is a failure although the
// package had one in an earlier run.
func TestSourcesAreApart(t *testing.T) {
	const p = `"Package":"example.org/o/m/internal/a"`
	var out strings.Builder
	s := newSummary(&out)
	slow := &source{summary: s, packages: map[string]*pkg{}, output: map[string][]string{}}
	slow.line(`{"Action":"output",` + p + `,"Test":"Slow","Output":"=== RUN   Slow\n"}`)
	dir := t.TempDir()
	names := []string{filepath.Join(dir, "one"), filepath.Join(dir, "two")}
	for i, text := range []string{
		`{"Action":"fail",` + p + `,"Test":"T"}` + "\n" + `{"Action":"fail",` + p + `}` + "\n" + `{"Action":"fail",` + p + `}` + "\n",
		`{"Action":"pass",` + p + `,"Test":"U"}` + "\n" + `{"Action":"pass",` + p + `}` + "\n",
	} {
		if err := os.WriteFile(names[i], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.readAll(names); err != nil {
		t.Fatal(err)
	}
	slow.line(`{"Action":"pass",` + p + `,"Test":"Slow"}`)
	s.finish([]string{"internal/a"})
	got := out.String()
	if strings.Contains(got, "did not") || !strings.Contains(got, "internal/a as a whole") || !strings.Contains(got, "(1 tests") ||
		!strings.HasSuffix(got, "\n2 passed, 2 failed, 0 skipped\n") {
		t.Errorf("got:\n%s", got)
	}
	if err := s.readAll([]string{filepath.Join(dir, "none")}); err == nil {
		t.Error("a file that is missing: got no error")
	}
}
