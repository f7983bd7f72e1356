package hosttest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
)

// Range returns a range of addresses for the network of one agent, which no other
// test on this machine gets until t has ended. The ranges from which the product
// chooses are too few for all agents of the tests.
//
// A name in the abstract namespace of Unix sockets holds the range, so that it is
// free again however the test's process ends.
func Range(t testing.TB) string {
	t.Helper()
	for {
		prefix := fmt.Sprintf("10.%d.%d.0/24", 232+rand.IntN(16), rand.IntN(256))
		held, err := net.ListenUnix("unix", &net.UnixAddr{Name: "@wrenn-test-range/" + prefix, Net: "unix"})
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			continue
		case err != nil:
			t.Fatal("hold a range of addresses:", err)
		}
		t.Cleanup(func() { _ = held.Close() })
		return prefix
	}
}
