package qemu_test

import (
	"context"
	"io"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
)

// TestMemoryIsUsedUp: the guest's kernel ends a command that takes all memory, and the
// answer says so.
func TestMemoryIsUsedUp(t *testing.T) {
	deps := hosttest.Deps(t, hosttest.Name("wqoom"))
	t.Cleanup(func() { check(t, deps.Network.(io.Closer).Close()) })
	g := newClient(t, deps)
	vm, err := deps.Drivers.Preferred().Start(t.Context(), g.cfg)
	check(t, err)
	t.Cleanup(func() { check(t, vm.Kill(context.WithoutCancel(t.Context()))) })
	check(t, g.Ready(t.Context()))
	g.OutOfMemory(t)
}
