package hosttest_test

import (
	"io"
	"path/filepath"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/cgroup"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
)

// TestDepsLeaveNothing: the parents of control groups go with the test that had them.
func TestDepsLeaveNothing(t *testing.T) {
	name := hosttest.Name("wleft")
	groups := func() (found []string) {
		for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
			more, err := filepath.Glob(pattern + name)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, more...)
		}
		return found
	}
	t.Run("a test", func(t *testing.T) {
		deps := hosttest.Deps(t, name)
		t.Cleanup(func() {
			if err := deps.Network.(io.Closer).Close(); err != nil {
				t.Error(err)
			}
		})
		group, err := deps.Cgroups.Create("vm", cgroup.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if len(groups()) == 0 {
			t.Error("no control group was made: the test proves nothing")
		}
		if err := group.Remove(); err != nil {
			t.Error(err)
		}
	})
	if left := groups(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
