package host_test

import (
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// sound checks the invariants of a host with no operation under way: journal,
// VMs, networks and groups agree, nothing is left over, and every sandbox that
// has not ended holds its data, runs commands, and can be paused and resumed.
func (c *core) sound() {
	c.t.Helper()
	c.agree()
	for _, s := range c.List() {
		if s.State != sandbox.Stopped {
			c.intact(s)
		}
	}
	c.agree()
}

// agree checks that each sandbox has exactly the resources that its state needs.
func (c *core) agree() {
	c.t.Helper()
	sandboxes, builds, _ := c.Dirs()
	running, known := 0, len(c.List())
	for _, s := range c.List() {
		switch s.State {
		case sandbox.Running:
			running++
		case sandbox.Paused, sandbox.Stopped:
		default:
			c.t.Errorf("sandbox %s is %s with no operation under way", s.Ref.ID, s.State)
		}
	}
	if vms := c.machine.Records(); len(vms) != running {
		c.t.Errorf("%d VMs run for %d running sandboxes: %v", len(vms), running, vms)
	}
	if slots := c.network.Slots(); len(slots) != running {
		c.t.Errorf("networks for %d running sandboxes: %v", running, slots)
	}
	if groups := c.groups.Groups(); len(groups) != running {
		c.t.Errorf("control groups for %d running sandboxes: %v", running, groups)
	}
	dirs := names(c.t, sandboxes)
	if len(dirs) != known {
		c.t.Errorf("directories of %d sandboxes: %v", known, dirs)
	}
	if left := names(c.t, builds); len(left) != 0 {
		c.t.Errorf("template builds left: %v", left)
	}
	for _, name := range dirs {
		c.journalAgrees(filepath.Join(sandboxes, name))
	}
}

// journalAgrees checks that the record in dir and the manager report the same state.
func (c *core) journalAgrees(dir string) {
	c.t.Helper()
	state, op, err := host.JournalState(dir)
	if err != nil || op != "" {
		c.t.Errorf("the journal in %s: operation %q is under way, %v", filepath.Base(dir), op, err)
		return
	}
	states := []string{}
	for _, s := range c.List() {
		states = append(states, string(s.State))
	}
	if !slices.Contains(states, state) {
		c.t.Errorf("the journal in %s says %s, the host has %v", filepath.Base(dir), state, states)
	}
}

// intact checks that a sandbox works and holds its data, before and after a
// pause.
func (c *core) intact(s host.Sandbox) {
	c.t.Helper()
	ref := s.Ref
	content := ""
	for range 2 {
		if c.of(ref).State == sandbox.Paused {
			ref.Generation++
			_, err := c.Resume(c.t.Context(), ref)
			check(c.t, err)
		}
		c.awaitGuest(ref)
		got := c.read(ref, mark)
		if content == "" {
			content = got
		}
		if got != content || len(got) != len(ref.ID) {
			c.t.Errorf("the file of sandbox %s holds %q, before %q", ref.ID, got, content)
		}
		if out, err := c.sh(ref, "echo works"); err != nil || out != "works" {
			c.t.Errorf("a command in sandbox %s: %q, %v", ref.ID, out, err)
		}
		_, err := c.Pause(c.t.Context(), ref)
		check(c.t, err)
	}
	ref.Generation++
	_, err := c.Resume(c.t.Context(), ref)
	check(c.t, err)
}

// awaitGuest waits until the guest of a running sandbox is in use again, after
// an operation that left it to be renewed in the background.
func (c *core) awaitGuest(ref sandbox.Ref) {
	c.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := c.sh(ref, "true")
		if fault.ReasonOf(err) != "guest_unresponsive" {
			return
		}
		select {
		case <-tick.C:
		case <-c.t.Context().Done():
			c.t.Fatalf("the guest of %s is not renewed: %v", ref.ID, err)
		}
	}
}

// empty destroys everything and checks that nothing is left.
func (c *core) empty() {
	c.t.Helper()
	for _, s := range c.List() {
		check(c.t, c.Destroy(c.t.Context(), s.Ref, ""))
	}
	snapshots, err := c.Snapshots()
	check(c.t, err)
	for _, s := range snapshots {
		check(c.t, c.DeleteSnapshot(c.t.Context(), s.ID))
	}
	sandboxes, builds, kept := c.Dirs()
	check(c.t, c.Close()) // ends warm clones
	c.Manager = nil
	for _, dir := range []string{sandboxes, builds, kept} {
		if left := names(c.t, dir); len(left) != 0 {
			c.t.Errorf("left in %s: %v", filepath.Base(dir), left)
		}
	}
	if vms, slots, groups := c.machine.Records(), c.network.Slots(), c.groups.Groups(); len(vms)+len(slots)+len(groups) != 0 {
		c.t.Errorf("left: VMs %v, networks %v, control groups %v", vms, slots, groups)
	}
}

// names returns the names of the entries of dir.
func names(t interface{ Fatal(...any) }, dir string) (out []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}
