package cli

import (
	"strings"
	"testing"
)

func TestDetachFilter(t *testing.T) {
	for _, c := range []struct {
		typed    []string
		want     string
		detached bool
	}{
		{[]string{"ls\r"}, "ls\r", false},
		{[]string{"a\x10\x11b"}, "a", true},
		{[]string{"a\x10", "\x11b"}, "a", true},
		{[]string{"a\x10", "b"}, "a\x10b", false},
		{[]string{"\x10", "\x10", "\x11"}, "\x10", true},
		{[]string{"\x11\x10", "c"}, "\x11\x10c", false},
	} {
		f, got, detached := detachFilter{}, "", false
		for _, piece := range c.typed {
			pass, end := f.filter([]byte(piece))
			got, detached = got+string(pass), detached || end
		}
		if got != c.want || detached != c.detached {
			t.Errorf("%q: got %q, %v; want %q, %v", strings.Join(c.typed, "|"), got, detached, c.want, c.detached)
		}
	}
}
