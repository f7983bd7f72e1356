package docs

import (
	"regexp"
	"strings"
	"testing"
)

// varying lists the values that differ from one run to the next, with the
// word that stands for each of them in a comparison.
var varying = []struct {
	pattern *regexp.Regexp
	word    string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`), "TIME"},
	{regexp.MustCompile(`\b[A-Z2-7]{26}\b`), "REQUEST"},
	{regexp.MustCompile(`\b[a-z2-7]{20}\b`), "ID"},
	{regexp.MustCompile(`\bkey_[0-9a-f]{16}\b`), "KEY"},
	{regexp.MustCompile(`\bwrn_[0-9A-Za-z_]+`), "SECRET"},
	{regexp.MustCompile(`\b\d+(\.\d+)? ?(ms|s)\b`), "DURATION"},
	{regexp.MustCompile(`\b\d+(\.\d+)? [KMG]iB\b`), "SIZE"},
	{regexp.MustCompile(`\b10\.\d+\.\d+\.\d+\b`), "ADDRESS"},
	{regexp.MustCompile(`[ \t]+`), " "},
}

// normal returns output with varying values replaced and spaces reduced.
func normal(output string) string {
	for _, v := range varying {
		output = v.pattern.ReplaceAllString(output, v.word)
	}
	lines := strings.Split(output, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

// matches reports whether got is the output that a page shows. In the page,
// "..." stands for any characters of a line, and for any lines if it is alone.
func matches(shown, got string) bool {
	var pattern strings.Builder
	for _, line := range strings.Split(normal(shown), "\n") {
		if line == "..." {
			pattern.WriteString(`(?:[^\n]*\n)*?`)
			continue
		}
		quoted := regexp.QuoteMeta(line)
		pattern.WriteString(strings.ReplaceAll(quoted, regexp.QuoteMeta("..."), `[^\n]*`) + `\n`)
	}
	return regexp.MustCompile(`\A` + pattern.String() + `\z`).MatchString(normal(got) + "\n")
}

func TestOutputComparison(t *testing.T) {
	for _, c := range []struct {
		shown, got string
		want       bool
	}{
		{"42", "42\n", true},
		{"42", "43\n", false},
		{"42", "42\n43\n", false},
		{"paused in 137 ms", "paused in 2.5 s", true},
		{"ID  STATUS\nzp2cbooep5kqo65cw6f4  paused", "ID                    STATUS\nsdwbig4vtpciapezh5r4  paused\n", true},
		{"zp2cbooep5kqo65cw6f4  paused", "sdwbig4vtpciapezh5r4  running\n", false},
		{"first\n...\nlast", "first\na\nb\nlast\n", true},
		{"first\n...\nlast", "first\nlast\n", true},
		{"first\n...\nlast", "first\na\n", false},
		{"made by: ...", "made by:     restore", true},
		{"", "something\n", false},
		{"", "", true},
	} {
		if got := matches(c.shown, c.got); got != c.want {
			t.Errorf("matches(%q, %q) = %v, want %v", c.shown, c.got, got, c.want)
		}
	}
}
