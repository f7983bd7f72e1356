package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
)

func TestTrend(t *testing.T) {
	for name, c := range map[string]struct {
		samples       []float64
		level, growth float64
	}{
		"none":        {nil, 0, 0},
		"one":         {[]float64{40}, 40, 0},
		"flat":        {[]float64{40, 41, 40, 40, 41, 40, 40, 40, 40, 40}, 40.5, -0.5},
		"one outlier": {[]float64{40, 40, 90, 41, 41, 41, 41, 41, 41, 41, 41, 41, 42, 42, 10}, 40, 2},
		"growing":     {[]float64{10, 20, 30, 40, 50}, 10, 40},
	} {
		if level, growth := trend(c.samples); level != c.level || growth != c.growth {
			t.Errorf("%s: %v and %v, want %v and %v", name, level, growth, c.level, c.growth)
		}
	}
}

func envelope(flags byte, text string) string {
	return string(binary.BigEndian.AppendUint32([]byte{flags}, uint32(len(text)))) + text
}

func TestStreamsOfEvents(t *testing.T) {
	const start, data, end = `{"event":{"start":{"pid":7}}}`, `{"event":{"data":{}}}`, `{"event":{"end":{}}}`
	for name, c := range map[string]struct {
		body  string
		whole bool
	}{
		"whole":             {envelope(0, start) + envelope(0, data) + envelope(0, end) + envelope(flagEnd, "{}"), true},
		"cut":               {envelope(0, start) + envelope(0, data), false},
		"no end of process": {envelope(0, start) + envelope(flagEnd, "{}"), false},
		"an error":          {envelope(0, end) + envelope(flagEnd, `{"error":{}}`), false},
		"a large message":   {string(binary.BigEndian.AppendUint32([]byte{0}, maxEnvelope+1)), false},
	} {
		if err := readStream(strings.NewReader(c.body), func([]byte) {}); (err == nil) != c.whole {
			t.Errorf("%s: %v", name, err)
		}
	}
	if pid, err := startedProcess(strings.NewReader(envelope(0, start))); pid != 7 || err != nil {
		t.Errorf("process %d, %v", pid, err)
	}
	if _, err := startedProcess(strings.NewReader(envelope(0, data))); err == nil {
		t.Error("a stream without a start has a process")
	}
}

func TestStreamThatEndsEarlyEndsTheMeasurement(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	held := &heldStreams{cancel: cancel, received: make([]atomic.Int64, 1)}
	broken := errors.New("broken")
	held.hold(ctx, 0, io.NopCloser(nil), func(*atomic.Int64) error { return broken })
	<-ctx.Done()
	if !errors.Is(context.Cause(ctx), broken) {
		t.Errorf("the measurement ended with %v", context.Cause(ctx))
	}
}

func TestBlocks(t *testing.T) {
	const size = 5<<19 + 3
	var got bytes.Buffer
	if n, err := io.Copy(&got, newBlocks(size)); n != size || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if !bytes.Equal(got.Bytes()[:1<<20], got.Bytes()[1<<20:1<<21]) {
		t.Error("the blocks differ")
	}
}
