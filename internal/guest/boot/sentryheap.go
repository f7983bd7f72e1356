package boot

import (
	"time"

	"golang.org/x/sys/unix"
)

// sentryHeap follows the heap of the sentry, a Go program. It holds the content of
// pipes and sockets, extended attributes, and the records of files, directories,
// mounts and others, for none of which the kernel has another limit.
type sentryHeap struct {
	file kernelFile
	// live is the most memory that can have been in use at the last collection of
	// garbage, or 0 before the first look.
	live, last uint64
	// held is the largest size of the heap, reached at the time at, that has not been
	// given back to the host.
	held uint64
	at   time.Time
}

// heldFor is how long a heap that has become smaller keeps the memory of the host.
// Measured: 8 s.
const heldFor = 15 * time.Second

// heapInRoom is the part of the heap for which the host has room beside the memory
// and the disk (vmm.Shape.OverheadMB).
const heapInRoom = 32 << 20

// look returns the memory of the host, in bytes, that the heap has or may take before
// the sentry collects garbage again, as far as it is beyond heapInRoom.
func (h *sentryHeap) look() uint64 {
	if size, err := h.size(); err == nil {
		h.note(size)
	}
	taken := max(h.held, h.most())
	return taken - min(taken, heapInRoom)
}

// note takes the present size of the heap, which includes garbage.
func (h *sentryHeap) note(size uint64) {
	switch {
	case size < h.last: // garbage was collected since the last look
		h.live = size
	case h.live == 0, size > 2*h.live: // unseen: more came than went
		h.live = size
	}
	h.last = size
	if now := time.Now(); size >= h.held || now.Sub(h.at) > heldFor {
		h.held, h.at = size, now
	}
}

// most returns the size up to which the heap may grow. Go collects garbage when the
// heap has doubled since the last time (GOGC=100). A quarter more is for that which
// commands fill until they are ended.
func (h *sentryHeap) most() uint64 { return 2*h.live + h.live/4 }

// collect makes the sentry collect its garbage. Only an allocation does so: a value of
// an extended attribute that is refused is garbage at once.
func (h *sentryHeap) collect() {
	value := make([]byte, xattrBytes)
	for made := 1; uint64(made)*xattrBytes < h.most(); made++ {
		_ = unix.Setxattr("/", "wrenn.garbage", value, 0)
		if made%collectStep != 0 {
			continue
		}
		before := h.last
		size, err := h.size()
		if err != nil {
			return
		}
		h.note(size)
		if size < before {
			return
		}
	}
}

// xattrBytes is the size of the largest value of an extended attribute (xattr(7)), and
// collectStep the number of values after which the heap is looked at.
const (
	xattrBytes  = 64 << 10
	collectStep = 16
)

// size returns the present size of the sentry's heap, in bytes.
func (h *sentryHeap) size() (uint64, error) {
	text, err := h.file.read()
	return sizeOf(text, "HeapAlloc"), err
}
