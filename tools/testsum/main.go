// Command testsum summarizes the output of "go test -json": a line for each
// package as it ends, the full output of failed tests, the reasons of skipped
// tests, and the numbers of passed, failed and skipped tests.
//
//	go test -json ./... | testsum -must internal/host,test/e2e
//
// Arguments are files to read in place of the standard input, such as pipes. It
// reads all of them at the same time: each is the output of go commands that run
// one after the other.
//
// It ends with 1 if anything failed, if no test ran, or if a package named
// with -must had no passing test: a suite that did not run is not green.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
)

func main() {
	must := flag.String("must", "", "comma list of packages, without the module's path, that must have a passing test")
	flag.Parse()
	s := newSummary(os.Stdout)
	if err := s.readAll(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
	if !s.finish(strings.FieldsFunc(*must, func(r rune) bool { return r == ',' })) {
		os.Exit(1)
	}
}

// event is one line of "go test -json" (go doc test2json, go help buildjson).
type event struct {
	Action     string
	Package    string
	Test       string
	Output     string
	Elapsed    float64 // seconds
	ImportPath string  // of build events
}

// summary collects the events read so far.
type summary struct {
	mu                      sync.Mutex // protects the fields below and those of sources
	out                     io.Writer
	passed, failed, skipped int
	// ran holds the packages that had a passing test.
	ran map[string]bool
	// problems and skips are the lines for the end.
	problems, skips []string
}

// source is one input of a summary. Two sources may report about tests of the
// same package at the same time.
type source struct {
	*summary
	packages map[string]*pkg
	// output holds the output of tests, packages and builds that has not been
	// shown yet, by package and test.
	output map[string][]string
}

// pkg counts the tests in one run of a package.
type pkg struct{ passed, failed int }

// slow is how long a test takes, in seconds, to get a line of its own.
const slow = 5

// kept bounds the lines of output that one test may have remembered.
const kept = 2000

func newSummary(out io.Writer) *summary {
	return &summary{out: out, ran: map[string]bool{}}
}

// readAll reads the named files at the same time, or the standard input if there
// are no names.
func (s *summary) readAll(names []string) error {
	if len(names) == 0 {
		return s.read(os.Stdin)
	}
	errs := make([]error, len(names))
	var group sync.WaitGroup
	for i, name := range names {
		group.Go(func() {
			f, err := os.Open(name)
			if err == nil {
				err = errors.Join(s.read(f), f.Close())
			}
			errs[i] = err
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// read takes in events until the end of r. Lines that are no events, such as
// those of a go command that fails early, are shown as they are.
func (s *summary) read(r io.Reader) error {
	from := &source{summary: s, packages: map[string]*pkg{}, output: map[string][]string{}}
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			from.line(line)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *source) line(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var e event
	if json.Unmarshal([]byte(line), &e) != nil || e.Action == "" {
		fmt.Fprint(s.out, line)
	} else {
		s.add(e)
	}
}

func (s *source) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		s.keep(e.ImportPath, e.Output)
	case "build-fail":
		s.show(e.ImportPath)
	case "output":
		s.keep(key, e.Output)
	case "pass", "fail", "skip":
		if e.Test != "" {
			s.endTest(e, key)
		} else {
			s.endPackage(e, key)
		}
	}
}

func (s *source) keep(key, line string) {
	if lines := s.output[key]; len(lines) < kept {
		s.output[key] = append(lines, line)
	}
}

func (s *source) show(key string) {
	for _, line := range s.output[key] {
		fmt.Fprint(s.out, "    ", line)
	}
	delete(s.output, key)
}

// showUnended shows the output of those tests of a package whose end was not
// reported: the process panicked or was killed while they ran.
func (s *source) showUnended(path string) {
	keys := slices.Sorted(maps.Keys(s.output))
	for _, key := range keys {
		if test, found := strings.CutPrefix(key, path+" "); found && test != "" {
			name := short(path) + " " + test
			fmt.Fprintf(s.out, "  FAIL  %s did not end\n", name)
			s.problems = append(s.problems, "did not end: "+name)
			s.show(key)
		}
	}
}

func (s *source) pkg(name string) *pkg {
	if s.packages[name] == nil {
		s.packages[name] = &pkg{}
	}
	return s.packages[name]
}

func (s *source) endTest(e event, key string) {
	p := s.pkg(e.Package)
	name := short(e.Package) + " " + e.Test
	switch e.Action {
	case "pass":
		s.passed++
		p.passed++
		s.ran[short(e.Package)] = true
		if e.Elapsed >= slow && !strings.Contains(e.Test, "/") {
			fmt.Fprintf(s.out, "  pass  %s (%.1f s)\n", name, e.Elapsed)
		}
	case "fail":
		s.failed++
		p.failed++
		fmt.Fprintf(s.out, "  FAIL  %s (%.1f s)\n", name, e.Elapsed)
		s.show(key)
		s.problems = append(s.problems, "failed: "+name)
	case "skip":
		s.skipped++
		s.skips = append(s.skips, "skipped: "+name+reason(s.output[key]))
	}
	delete(s.output, key)
}

// reason returns the reason of a skipped test: the last line of its output.
func reason(output []string) string {
	for i := len(output) - 1; i >= 0; i-- {
		line := strings.TrimSpace(output[i])
		if line != "" && !strings.HasPrefix(line, "--- ") && !strings.HasPrefix(line, "=== ") {
			return ": " + line
		}
	}
	return ""
}

func (s *source) endPackage(e event, key string) {
	name := short(e.Package)
	p := s.pkg(e.Package)
	switch {
	case e.Action == "fail":
		fmt.Fprintf(s.out, "FAIL    %s (%.1f s)\n", name, e.Elapsed)
		if p.failed == 0 {
			// It did not compile, or its process ended within a test or outside of any.
			s.failed++
			s.show(key)
			s.problems = append(s.problems, "failed: "+name+" as a whole")
		}
		s.showUnended(e.Package)
	case e.Action == "pass" && p.passed > 0:
		fmt.Fprintf(s.out, "ok      %s (%d tests, %.1f s)\n", name, p.passed, e.Elapsed)
	}
	delete(s.packages, e.Package)
	delete(s.output, key)
}

// finish prints the end and reports whether all is well.
func (s *summary) finish(must []string) bool {
	for _, name := range must {
		if !s.ran[name] {
			s.problems = append(s.problems, "did not run: "+name+", which must have a passing test")
		}
	}
	if s.passed+s.failed == 0 {
		s.problems = append(s.problems, "did not run: anything")
	}
	for _, line := range append(s.skips, s.problems...) {
		fmt.Fprintln(s.out, line)
	}
	fmt.Fprintf(s.out, "%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
	return s.failed == 0 && len(s.problems) == 0
}

// short leaves out the module's path, HOST/OWNER/NAME.
func short(path string) string {
	parts := strings.SplitN(path, "/", 4)
	return parts[len(parts)-1]
}
