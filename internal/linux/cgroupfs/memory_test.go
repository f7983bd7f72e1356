package cgroupfs

import "testing"

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
