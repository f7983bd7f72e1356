package host_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestTwoAgentsGiveNoUserTwice: VM processes of two agents on one machine, and
// of one that was ended while its VMs live, have different users, and no file of
// a sandbox belongs to a user that may become another's.
func TestTwoAgentsGiveNoUserTwice(t *testing.T) {
	one, two := newBench(t, "wuida"), newBench(t, "wuidb")
	refOne, refTwo := one.create(), two.create()
	users := map[uint32]string{}
	note := func(b *bench) uint32 {
		t.Helper()
		uid := b.vmUser()
		if other := users[uid]; other != "" || uid < 1<<30 {
			t.Errorf("a VM of %s has the user %d, which is below the range or that of a VM of %s", b.name, uid, other)
		}
		users[uid] = b.name
		return uid
	}
	userOne := note(one)
	note(two)
	if owner := one.diskOwner(refOne.ID); owner != 0 {
		t.Errorf("the disk of a running sandbox belongs to %d, want root", owner)
	}

	one.close() // its VM lives on
	three := newBench(t, "wuidc")
	three.create()
	note(three)

	one.open()
	_, err := one.Pause(t.Context(), refOne)
	check(t, err)
	if owner := one.diskOwner(refOne.ID); owner != 0 {
		t.Errorf("the disk of a paused sandbox belongs to %d, want root", owner)
	}
	delete(users, userOne)
	refOne.Generation++
	_, err = one.Resume(t.Context(), refOne)
	check(t, err)
	note(one)
	one.sh(refOne, "true")
	two.sh(refTwo, "true")
}

// vmUser returns the user of the agent's only VM process.
func (b *bench) vmUser() uint32 {
	b.t.Helper()
	found, err := b.deps.Drivers.Find(b.dir)
	check(b.t, err)
	for _, p := range found {
		// proc_pid_status(5): real, effective, saved and file system user.
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
		check(b.t, err)
		for line := range strings.Lines(string(status)) {
			if ids := strings.Fields(line); len(ids) == 5 && ids[0] == "Uid:" && ids[1] != "0" {
				return uint32(atoi(b.t, ids[1]))
			}
		}
	}
	b.t.Fatalf("no VM process of the agent has a user of its own: %+v", found)
	return 0
}

func (b *bench) diskOwner(id sandbox.ID) uint32 {
	b.t.Helper()
	return owner(b.t, b.dir+"/sandboxes/"+string(id)+"/disk")
}

func owner(t testing.TB, path string) uint32 {
	t.Helper()
	st, err := os.Stat(path)
	check(t, err)
	return st.Sys().(*syscall.Stat_t).Uid
}
