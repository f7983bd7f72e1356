package boot

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Sentry is gVisor's kernel. It implements agent.Kernel. Much of what an agent
// renews in a virtual machine is the host's in gVisor, and needs no renewal.
type Sentry struct {
	root    *os.File
	release string
}

// NewSentry returns a Sentry whose writable root is open as root.
func NewSentry(root *os.File) *Sentry { return &Sentry{root: root, release: kernelRelease()} }

// Reseed does nothing: getrandom(2) and /dev/urandom read the generator of the
// host's kernel, of which no snapshot has a copy.
func (*Sentry) Reseed([]byte) error { return nil }

// AdjustClock does nothing: the wall clock is the host's.
func (*Sentry) AdjustClock(time.Duration) (moved time.Duration, err error) { return 0, nil }

// CloseConnections does nothing: the runtime closes all connections with other
// machines when it restores a sandbox.
func (*Sentry) CloseConnections() (int, error) { return 0, nil }

// Sync writes the writable root back.
func (s *Sentry) Sync() error {
	if err := unix.Syncfs(int(s.root.Fd())); err != nil {
		return fmt.Errorf("sync root: %w", err)
	}
	return nil
}

// KernelRelease returns the kernel's release, as uname -r.
func (s *Sentry) KernelRelease() string { return s.release }
