package gvisor_test

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/gvisor"
)

// ownPacketSockets is the number of packet sockets that this process has open.
func ownPacketSockets(t testing.TB) (n int) {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	check(t, err)
	for _, link := range links {
		fd, err := strconv.Atoi(filepath.Base(link))
		check(t, err)
		if domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err == nil && domain == unix.AF_PACKET {
			n++
		}
	}
	return n
}

// TestKillClosesPacketSockets: a sandbox's packet sockets, which Kill has open while the
// sentry ends, are closed afterwards.
func TestKillClosesPacketSockets(t *testing.T) {
	d, image := newDriver(t)
	g := newGuest(t, image)
	vm, err := d.Start(t.Context(), g.cfg)
	check(t, err)
	check(t, g.Ready(t.Context()))
	copies := gvisor.PacketSockets(vm)
	if len(copies) == 0 {
		t.Error("the sentry has no packet socket, or Kill would not find it")
	}
	for _, fd := range copies {
		check(t, unix.Close(fd))
	}
	kill(t, vm)
	for late := time.Now().Add(hosttest.Patience(t, 10*time.Second)); ownPacketSockets(t) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("a packet socket stays open")
		}
	}
}
