package bench

import (
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// Options select the measurements of a run. Client and Note are required.
type Options struct {
	Client *client.Client
	// Size is the size of sandboxes that may come from a warm pool. Sandboxes
	// that must be restored get a slightly larger disk, a size without a pool.
	Size Size
	// Rounds is the number of rounds. Each round measures every part once.
	Rounds int
	// Burst is the number of concurrent creates in a burst, and Waves the number
	// of bursts. One more batch of Burst creates starts them Stagger apart. A
	// Burst of 0 skips both.
	Burst, Waves int
	Stagger      time.Duration
	// DirtyMB lists the amounts of memory, in MiB, that a sandbox writes before
	// a measured pause or fork. Each amount is measured DirtyRounds times.
	DirtyMB     []int
	DirtyRounds int
	// FileBytes is the size of the file that is uploaded and downloaded; 0 skips
	// the transfers.
	FileBytes int64
	// LargeBytes is the size of one more transfer, by other paths; 0 skips it.
	LargeBytes int64
	// Streams is the number of streams of output that are open together for StreamTime; 0
	// skips the measurement, which needs Server.
	Streams    int
	StreamTime time.Duration
	// Density is the number of idle sandboxes that are kept alive together; 0
	// skips the measurement. Rest is the time for which they are observed.
	Density int
	Rest    time.Duration
	// Runtimes are the runtimes of the server to measure; empty is all that its
	// host offers.
	Runtimes []string
	// Server is the process of the server, or 0 where it is not on this machine.
	// The CPU time of idle sandboxes then includes it.
	Server int
	// Runsc and Native configure the bare subjects; nil leaves one out.
	Runsc  *BareRunsc
	Native *BareNative
	// Bare configures the boots of a bare QEMU; nil skips the comparison.
	Bare *Bare
	// Note reports progress. Several goroutines may call it at once.
	Note func(format string, args ...any)
}
