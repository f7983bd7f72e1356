package host_test

import (
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/fake"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestCoreMemoryThatIsNotShared: VMs that share no memory are counted whole, with
// their disks if those are in memory, and are promised no more than there is. A
// warm clone gives way to a sandbox that cannot use it.
func TestCoreMemoryThatIsNotShared(t *testing.T) {
	c := newCoreOf(t, kind{shape: fake.Checkpointed, templates: fastTemp(t)})
	c.change = func(cfg *host.Config) { cfg.MemoryOvercommit, cfg.DiskOvercommit = 1, 1 }
	c.restart()
	info, err := c.Info(t.Context())
	check(t, err)
	spec := coreSpec
	spec.MemoryMB = min(info.MemoryMB/2-spec.DiskMB, sandbox.MaxMemoryMB)
	if 3*(spec.MemoryMB+spec.DiskMB) <= info.MemoryMB {
		t.Skipf("%d MB is more than two of the largest VMs can fill", info.MemoryMB)
	}
	c.restart(host.PoolKind{Spec: spec, Size: 1})
	first, copied := newRef(), newRef()
	_, err = c.Create(t.Context(), first, spec)
	check(t, err)
	awaitPool(t, c.Manager, 1)
	takeSnapshot(c, first)
	_, err = c.CreateFrom(t.Context(), copied, spec, coreSnapshot)
	check(t, err)
	if n := len(c.machine.Records()); n != 2 {
		t.Errorf("%d VMs run, want those of two sandboxes and no warm clone", n)
	}
	if _, err := c.Create(t.Context(), newRef(), spec); fault.ReasonOf(err) != "no_memory" {
		t.Errorf("a third sandbox: %v, want no_memory", err)
	}
	pauseSubject(c, first)
	pauseSubject(c, copied)
	small := newRef()
	_, err = c.Create(t.Context(), small, coreSpec)
	check(t, err)
	check(t, actResume.do(t.Context(), c, first))
	if err := actResume.do(t.Context(), c, copied); fault.ReasonOf(err) != "no_memory" {
		t.Errorf("resume beside two others: %v, want no_memory", err)
	}
	check(t, c.Destroy(t.Context(), small, ""))
	c.restart() // without a pool
	c.agree()
	c.empty()
}
