package boot

import "testing"

func TestFirstCPUs(t *testing.T) {
	const one, two = "processor\t: 0\nflags\t: fpu\n\n", "processor\t: 1\nflags\t: fpu\n\n"
	for _, c := range []struct {
		info string
		n    int
		want string
	}{{one + two, 1, one}, {one + two, 2, one + two}, {one, 2, one}, {"", 1, ""}} {
		if got := firstCPUs(c.info, c.n); got != c.want {
			t.Errorf("the first %d CPUs of %q are %q, want %q", c.n, c.info, got, c.want)
		}
	}
}
