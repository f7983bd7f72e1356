package cgroupfs

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestMemoryCountersOfBothVersions(t *testing.T) {
	const hybrid = "4:memory:/wrenn/a\n1:cpu,cpuacct:/x:y\n0::/wrenn/b\n"
	for controller, want := range map[string]string{"memory": "/wrenn/a", "cpuacct": "/x:y", "": "/wrenn/b", "pids": ""} {
		if got := groupOf(hybrid, controller); got != want {
			t.Errorf("the group of %q is %q, want %q", controller, got, want)
		}
	}
	if got := parseCounters("anon 12\nshmem 30\nbroken\n"); got["anon"] != 12 || got["shmem"] != 30 || len(got) != 2 {
		t.Errorf("counters %v", got)
	}
}

// TestMemoryOfBothVersions: the memory that is used, the part of it that stays when the
// kernel takes the cache of files back, and the limit.
func TestMemoryOfBothVersions(t *testing.T) {
	for name, c := range map[string]struct {
		v1                      bool
		files                   map[string]string
		used, firm, held, limit uint64
	}{
		"v1": {true, map[string]string{
			"memory.usage_in_bytes": "1000\n", "memory.limit_in_bytes": "5000\n",
			"memory.stat": "cache 1\ntotal_cache 400\ntotal_rss 500\ntotal_shmem 300\n",
		}, 1000, 900, 800, 5000},
		"v2": {false, map[string]string{
			"memory.current": "1000\n", "memory.max": "5000\n", "memory.stat": "anon 500\nfile 400\nshmem 300\n",
		}, 1000, 900, 800, 5000},
		"v2 without a limit": {false, map[string]string{
			"memory.current": "10\n", "memory.max": "max\n", "memory.stat": "anon 5\nfile 400\nshmem 3\n",
		}, 10, 0, 8, math.MaxUint64},
	} {
		m := Memory{dir: t.TempDir(), v1: c.v1}
		for file, text := range c.files {
			if err := os.WriteFile(filepath.Join(m.dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for what, f := range map[string]struct {
			read func() (uint64, error)
			want uint64
		}{"used": {m.Used, c.used}, "firm": {m.Firm, c.firm}, "held": {m.Held, c.held}, "limit": {m.Limit, c.limit}} {
			if got, err := f.read(); err != nil || got != f.want {
				t.Errorf("%s: %s is %d, %v; want %d", name, what, got, err, f.want)
			}
		}
	}
}
