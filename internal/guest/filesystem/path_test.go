package filesystem

import (
	"path"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

func TestResolve(t *testing.T) {
	bases := Bases{Home: "/home/user", Default: "/work"}
	tests := []struct{ in, want string }{
		{"", "/work"},
		{"~", "/home/user"},
		{"~/x", "/home/user/x"},
		{"~/../x", "/home/x"},
		{"/etc//passwd", "/etc/passwd"},
		{"/../..", "/"},
		{"a/b", "/home/user/a/b"},
		{"../../../x", "/x"},
		{".", "/home/user"},
		{"a~b", "/home/user/a~b"},
	}
	for _, tt := range tests {
		if got, err := Resolve(tt.in, bases); err != nil || got != tt.want {
			t.Errorf("Resolve(%q) = %q, %v; want %q", tt.in, got, err, tt.want)
		}
	}
	if got, _ := Resolve("", Bases{Home: "/root"}); got != "/root" {
		t.Errorf("without a default directory: %q", got)
	}
	for _, bad := range []string{"~other", "~other/x", "a\x00b", "/" + strings.Repeat("x", maxPath)} {
		if _, err := Resolve(bad, bases); !fault.Is(err, fault.Invalid) {
			t.Errorf("Resolve(%.20q) = %v, want Invalid", bad, err)
		}
	}
}

// Every accepted path becomes a clean absolute path that the
// kernel takes, and resolving it again changes nothing.
func FuzzResolve(f *testing.F) {
	for _, s := range []string{"", "~", "~/a", "~b", "/a/../..", "a//b/.", "\x00", "../x"} {
		f.Add(s, "/home/user", "")
		f.Add(s, "", "/work")
		f.Add(s, "relative", "also/../relative")
	}
	f.Fuzz(func(t *testing.T, in, home, def string) {
		bases := Bases{Home: home, Default: def}
		got, err := Resolve(in, bases)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if !path.IsAbs(got) || path.Clean(got) != got || len(got) > maxPath {
			t.Fatalf("Resolve(%q) = %q", in, got)
		}
		if again, err := Resolve(got, bases); err != nil || again != got {
			t.Fatalf("Resolve(%q) = %q, %v", got, again, err)
		}
	})
}
