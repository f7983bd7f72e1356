package gvisor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Kill implements vmm.VM. The kernel closes a packet socket only when no other processor
// can still be reading the list that it is in, which takes 10 to 20 ms, and a process
// ends after its descriptors are closed. The agent therefore has the sandbox's packet
// sockets open while the sentry ends, and closes them afterwards, beside the caller.
func (v *vm) Kill(ctx context.Context) error {
	sockets := v.packetSockets()
	defer func() {
		go func() { _ = fault.Caught(func() error { return closeAll(sockets) }) }()
	}()
	return v.Process.Kill(ctx)
}

func closeAll(fds []int) (err error) {
	for _, fd := range fds {
		err = errors.Join(err, unix.Close(fd))
	}
	return err
}

// mostDescriptors is the number of the sentry's descriptors in which its packet sockets
// are looked for. It gets them when it starts.
const mostDescriptors = 64

// packetSockets returns copies of the packet sockets of the sentry; none if they cannot
// be had.
func (v *vm) packetSockets() (sockets []int) {
	dir := filepath.Join("/proc", strconv.Itoa(v.Record().PID), "fd")
	for n := range mostDescriptors {
		target, err := os.Readlink(filepath.Join(dir, strconv.Itoa(n)))
		if err != nil || !strings.HasPrefix(target, "socket:") {
			continue
		}
		fd, err := v.Duplicate(n)
		if err != nil {
			continue
		}
		if domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err == nil && domain == unix.AF_PACKET {
			sockets = append(sockets, fd)
			continue
		}
		_ = unix.Close(fd)
	}
	return sockets
}
