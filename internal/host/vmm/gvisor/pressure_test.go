package gvisor_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/gvisor"
)

// TestHostMemoryIsShort: a sandbox that uses more than its share is paused, and one
// that does not goes on. It stays paused until there is memory, also for a later agent.
// The floor of this test is more memory than any host has.
func TestHostMemoryIsShort(t *testing.T) {
	_, image := newDriver(t)
	options := func(floorMB int) func(*gvisor.Options) {
		return func(o *gvisor.Options) { o.MemoryFloorMB, o.DiskOvercommit = floorMB, 8 }
	}
	d := driver{hosttest.GVisor(t, options(1<<30))}
	modest, greedy := newGuest(t, image), newGuest(t, image)
	ctx, cancel := context.WithTimeout(t.Context(), hosttest.Patience(t, 60*time.Second))
	defer cancel()
	start := func(g *guest) vmm.VM {
		g.hostLimits(t, d.Info().Shape)
		vm, err := d.Start(ctx, g.cfg)
		check(t, err)
		t.Cleanup(func() { check(t, d.KillRecord(context.WithoutCancel(t.Context()), vm.Record())) })
		check(t, g.Ready(ctx))
		return vm
	}
	modestVM, greedyVM := start(modest), start(greedy)
	stuck := make(chan struct{})
	go func() {
		defer close(stuck)
		fill, cancel := context.WithCancel(ctx)
		defer cancel()
		_, _ = greedy.Shell(fill, "dd if=/dev/zero of=/root/fill bs=1M count=500 2>/dev/null; cat /dev/shm/none")
	}()
	select {
	case <-greedyVM.Stalled():
	case <-ctx.Done():
		t.Fatal("a sandbox that fills its disk was not paused")
	}
	if full, err := greedyVM.OutOfSpace(ctx); err != nil || !full {
		t.Fatalf("out of space: %v, %v; want true", full, err)
	}
	// The host tries again, in vain.
	check(t, greedyVM.Resume(ctx))
	if full, _ := greedyVM.OutOfSpace(ctx); !full {
		t.Error("the sandbox continues although memory is short")
	}
	if _, err := modest.Shell(ctx, "true"); err != nil {
		t.Errorf("the other sandbox: %v", err)
	}
	if full, _ := modestVM.OutOfSpace(ctx); full {
		t.Error("the other sandbox was paused")
	}
	score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", greedyVM.Record().PID))
	if err != nil || strings.TrimSpace(string(score)) != "500" {
		t.Errorf("oom_score_adj of the sentry is %q, %v; want 500", score, err)
	}

	greedyVM.Detach()
	later := hosttest.GVisor(t, options(0)) // a later agent, with memory
	vm, err := later.Adopt(ctx, greedyVM.Record())
	check(t, err)
	t.Cleanup(func() { kill(t, vm) })
	select {
	case <-vm.Stalled():
	case <-ctx.Done():
		t.Fatal("a later agent does not know that the sandbox is paused")
	}
	check(t, vm.Resume(ctx))
	if full, _ := vm.OutOfSpace(ctx); full {
		t.Error("the sandbox is still paused")
	}
	<-stuck
	if out, err := greedy.Shell(ctx, "stat -c %s /root/fill"); err != nil || strings.TrimSpace(out) != fmt.Sprint(500<<20) {
		t.Errorf("the file that was being written has %q bytes, %v; want 500 MiB", out, err)
	}
}
