package cgroupfs

import (
	"maps"
	"strings"
	"testing"
)

const (
	v1Memory = "35 31 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
	v1Again  = "50 31 0:31 / /mnt/memory rw,relatime - cgroup cgroup rw,memory\n"
	v1Joint  = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
	v1Name   = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
	v2       = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	v2Blank  = `41 31 0:38 / /mnt/with\040blank rw - cgroup2 cgroup2 rw` + "\n"
	v2RO     = "30 23 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw\n"
	other    = "22 27 0:21 / /proc rw - proc proc rw\n"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, table, unified string
		v1                   map[string]string // without the general options
	}{
		{"v2", other + v2, "/sys/fs/cgroup", nil},
		{"a blank in the path", v2Blank + v2, "/mnt/with blank", nil},
		{"v1 and v2", v1Memory + v1Again + v2, "/sys/fs/cgroup", map[string]string{"memory": "/sys/fs/cgroup/memory"}},
		{"joint controllers", v1Joint, "", map[string]string{"cpu": "/sys/fs/cgroup/cpu,cpuacct", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct"}},
		{"a named hierarchy", v1Name, "", map[string]string{"name=systemd": "/sys/fs/cgroup/systemd"}},
		{"read-only", v2RO, "", nil},
		{"none", other, "", nil},
	} {
		got, err := Parse(strings.NewReader(c.table))
		if err != nil {
			t.Fatal(err)
		}
		delete(got.V1, "rw")
		if got.Unified != c.unified || !maps.Equal(got.V1, c.v1) {
			t.Errorf("%s: got %+v, want unified %q and v1 %v", c.name, got, c.unified, c.v1)
		}
	}
	if got, err := Parse(strings.NewReader("broken\n")); err == nil {
		t.Errorf("a broken table: got %+v, want an error", got)
	}
}

func TestFindReadsTheMountTable(t *testing.T) {
	if _, err := Find(); err != nil {
		t.Errorf("Find: %v", err)
	}
}
