package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// tickScript writes a line of tickBytes bytes ten times a second, until it is ended.
const (
	tickScript = `import sys, time
while True:
    sys.stdout.write("x" * (int(sys.argv[1]) - 1) + "\n"); sys.stdout.flush()
    time.sleep(0.1)
`
	tickBytes      = 1024
	ticksPerSecond = 10
)

// streams keeps Streams streams of output open together for StreamTime, and measures the
// memory of the server meanwhile. One half are attachments by the own API, the other half
// streams of E2B's clients.
func (r *run) streams(ctx context.Context) error {
	if r.Server == 0 {
		return fmt.Errorf("%w: the server is not a process of this machine", errPermanent)
	}
	sb, err := r.create(ctx, r.restoreSize)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	held := &heldStreams{cancel: cancel, received: make([]atomic.Int64, r.Streams)}
	if err := r.openStreams(ctx, sb.ID, held); err != nil {
		return err
	}
	samples, err := r.serverMemory(ctx)
	if cause := context.Cause(ctx); cause != nil {
		return r.failRun(context.WithoutCancel(ctx), cause)
	}
	if err != nil {
		return err
	}
	// Half of the written bytes leaves room for a loaded machine.
	least := int64(r.StreamTime.Seconds()) * ticksPerSecond * tickBytes / 2
	for i := range held.received {
		if n := held.received[i].Load(); n < least {
			return r.failRun(ctx, fmt.Errorf("stream %d brought %d bytes in %s, want at least %d", i, n, r.StreamTime, least))
		}
	}
	level, growth := trend(samples)
	r.add(opStreamMemory, level)
	r.add(opStreamGrowth, growth)
	return nil
}

// heldStreams are streams that must stay open until the measurement ends.
type heldStreams struct {
	cancel   context.CancelCauseFunc
	received []atomic.Int64 // bytes, by stream
}

// hold reads a stream until ctx ends. One that ends earlier ends the measurement.
func (h *heldStreams) hold(ctx context.Context, i int, body io.Closer, read func(received *atomic.Int64) error) {
	go func() {
		defer body.Close()
		err := read(&h.received[i])
		if ctx.Err() == nil {
			h.cancel(errors.Join(fmt.Errorf("stream %d ended early", i), err))
		}
	}()
}

// streamsPerProcess is the number of streams that show the output of one process; a
// process may have 16.
const streamsPerProcess = 10

// openStreams opens the streams.
func (r *run) openStreams(ctx context.Context, id string, held *heldStreams) error {
	token, err := r.publicToken(ctx, id)
	if err != nil {
		return err
	}
	for first := 0; first < r.Streams; first += streamsPerProcess {
		open := r.ownStreams
		if first/streamsPerProcess%2 == 1 {
			open = r.publicStreams
		}
		if err := open(ctx, id, token, held, first, min(first+streamsPerProcess, r.Streams)); err != nil {
			return err
		}
	}
	return nil
}

// ownStreams opens the streams from first to end as attachments to a process.
func (r *run) ownStreams(ctx context.Context, id, _ string, held *heldStreams, first, end int) error {
	process, err := r.Client.StartProcess(ctx, id, client.ProcessRequest{Cmd: "python3", Args: []string{"-c", tickScript, strconv.Itoa(tickBytes)}})
	if err != nil {
		return err
	}
	for i := first; i < end; i++ {
		a, err := r.Client.Attach(ctx, id, process.ID, client.AttachOptions{})
		if err != nil {
			return fmt.Errorf("stream %d: %w", i, err)
		}
		held.hold(ctx, i, a, func(received *atomic.Int64) error { return readAttachment(a, received) })
	}
	return nil
}

// publicStreams opens the streams from first to end as E2B's clients do: the first starts
// the process, the others connect to it.
func (r *run) publicStreams(ctx context.Context, id, token string, held *heldStreams, first, end int) error {
	procedure, message := "Start", fmt.Sprintf(`{"process":{"cmd":"python3","args":["-c",%s,"%d"]}}`, quoted(tickScript), tickBytes)
	for i := first; i < end; i++ {
		body, err := r.publicStream(ctx, id, token, procedure, message)
		if err != nil {
			return fmt.Errorf("stream %d: %w", i, err)
		}
		if i == first {
			pid, err := startedProcess(body)
			if err != nil {
				return errors.Join(err, body.Close())
			}
			procedure, message = "Connect", fmt.Sprintf(`{"process":{"pid":%d}}`, pid)
		}
		held.hold(ctx, i, body, func(received *atomic.Int64) error {
			return readStream(body, func(event []byte) { received.Add(int64(len(event))) })
		})
	}
	return nil
}

func quoted(text string) []byte {
	out, _ := json.Marshal(text) // a string has always a form in JSON
	return out
}

// startedProcess reads the number of the process from the first event of its stream.
func startedProcess(stream io.Reader) (pid int, err error) {
	_, text, err := readEnvelope(stream)
	if err != nil {
		return 0, err
	}
	var m struct {
		Event struct {
			Start struct {
				PID int `json:"pid"`
			} `json:"start"`
		} `json:"event"`
	}
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&m); err != nil || m.Event.Start.PID == 0 {
		return 0, errors.Join(fmt.Errorf("the stream of a command began with %.200s", text), err)
	}
	return m.Event.Start.PID, nil
}

func readAttachment(a *client.Attachment, received *atomic.Int64) error {
	for {
		e, err := a.Next()
		if err != nil {
			return err
		}
		received.Add(int64(len(e.Data)))
	}
}

// streamSettle is the time between the opening of the streams and the first sample. In it
// the server's heap reaches the size that its garbage collector keeps: 8 MiB more than
// after the first 5 s.
const streamSettle = 20 * time.Second

// serverMemory samples the resident memory of the server, in MiB, each second of
// StreamTime.
func (r *run) serverMemory(ctx context.Context) (samples []float64, err error) {
	status := fmt.Sprintf("/proc/%d/status", r.Server)
	for end := time.Now().Add(streamSettle + r.StreamTime); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
		if time.Until(end) > r.StreamTime {
			continue
		}
		mib, err := kilobytes(status, "VmRSS")
		if err != nil {
			return nil, err
		}
		samples = append(samples, mib)
	}
	return samples, nil
}

// trend returns the median of the first fifth of samples, and how much larger that of the
// last fifth is.
func trend(samples []float64) (level, growth float64) {
	part := max(len(samples)/5, 1)
	if len(samples) == 0 {
		return 0, 0
	}
	first, last := slices.Clone(samples[:part]), slices.Clone(samples[len(samples)-part:])
	slices.Sort(first)
	slices.Sort(last)
	return median(first), median(last) - median(first)
}
