package untrusted

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"plain text stays", "größe: 3 €, 日本", "größe: 3 €, 日本"},
		{"terminal escapes", "\x1b[2Jgone\x07\x7f", " [2Jgone  "},
		{"C1 controls", "a\u009b31mb", "a 31mb"},
		{"lines", "a\r\nb\u2028c\u2029d", "a  b c d"},
		{"bidirectional controls", "a\u202eb\u2066c\u200fd\u061c", "a b c d "},
		{"hidden characters", "a\u200bb\ufeff", "a b "},
		{"broken bytes", "a\xff\xc3b", "a  b"},
		{"too long", strings.Repeat("é", 40), strings.Repeat("é", 25)},
		{"cut in a character", "x" + strings.Repeat("é", 40), "x" + strings.Repeat("é", 24)},
	} {
		if got := Line(c.in, 50); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("a\x1b\u202e\xff", 3)
	f.Fuzz(func(t *testing.T, in string, limit int) {
		limit = max(0, min(limit, 1<<16))
		got := Line(in, limit)
		if len(got) > limit || !utf8.ValidString(got) || strings.ContainsFunc(got, Steers) {
			t.Errorf("Line(%q, %d) = %q", in, limit, got)
		}
	})
}
