package gvisor_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// The addresses of the guest and of the other end of its link. Each sandbox is in
// namespaces of its own, so that all have the same.
const (
	guestAddress = "169.254.0.21/30"
	outerAddress = "169.254.0.22/30"
)

// newNamespace makes two namespaces with a link: name, from which the guest is
// reached, and name with "i", which the sandbox joins, and returns the path of the
// second.
func newNamespace(t testing.TB, name string) string {
	t.Helper()
	inner := name + "i"
	ip(t, "netns", "add", name)
	t.Cleanup(func() { ip(t, "netns", "del", name) })
	ip(t, "netns", "add", inner)
	t.Cleanup(func() { ip(t, "netns", "del", inner) })
	ip(t, "-n", name, "link", "add", "tap0", "type", "veth", "peer", "name", "eth0", "netns", inner)
	ip(t, "-n", name, "addr", "add", outerAddress, "dev", "tap0")
	ip(t, "-n", name, "link", "set", "tap0", "up")
	ip(t, "-n", inner, "link", "set", "lo", "up")
	ip(t, "-n", inner, "link", "set", "eth0", "up")
	return filepath.Join("/run/netns", inner)
}

func ip(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// address gives the device in the namespace its address and route, unless it has
// them.
func address(path string) error {
	name := filepath.Base(path)
	for _, args := range [][]string{
		{"-n", name, "addr", "replace", guestAddress, "dev", "eth0"},
		{"-n", name, "route", "replace", "default", "via", "169.254.0.22"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %v: %w: %s", args, err, out)
		}
	}
	return nil
}

// dialIn connects to a port of the guest from the namespace name.
func dialIn(ctx context.Context, name string, port uint16) (net.Conn, error) {
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer own.Close()
	there, err := os.Open(filepath.Join("/run/netns", name))
	if err != nil {
		return nil, err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp4", net.JoinHostPort("169.254.0.21", strconv.Itoa(int(port))))
	if unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread() // otherwise the thread ends with the goroutine
	}
	return conn, err
}
