package rest

import (
	"net/http"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// streamProcess answers with the output of a process as server-sent events. A failure
// before the first event is an ordinary error response.
func (s *server) streamProcess(w http.ResponseWriter, r *http.Request, id sandbox.ID, a control.ProcessAttach) {
	sink := processEvents{s.newEvents(w)}
	defer sink.pace.end()
	ctx, cancel := untilStopping(r)
	defer cancel()
	stop := sink.keepAlive()
	p, err := s.Sandboxes.AttachProcess(ctx, id, a, sink)
	stop()
	switch {
	case err == nil:
		err = sink.event("exit", p.OutputEnd, processJSON(p))
	case !sink.begun:
		s.fail(w, r, err)
		return
	default:
		err = withCause(ctx, err)
		_ = sink.event("error", -1, errorJSON{errorBodyOf(err)})
	}
	recordError(r.Context(), err)
}

// processEvents is a control.ProcessSink that writes events. The id of an event is the
// offset after it, so that Last-Event-ID continues where the last event ended.
type processEvents struct{ *eventStreamer }

// pieceJSON is the schema ProcessOutput.
type pieceJSON struct {
	Offset   int64  `json:"offset"`
	Data     string `json:"data"`
	Encoding string `json:"encoding"`
}

// truncatedJSON is the schema ProcessTruncated.
type truncatedJSON struct {
	Offset int64 `json:"offset"`
	Bytes  int64 `json:"bytes"`
}

// Attached implements control.ProcessSink.
func (e processEvents) Attached(p control.Process) error {
	return e.event("process", -1, processJSON(p))
}

// Output implements control.ProcessSink. A character may be split between two events,
// which are then base64: each event has the bytes of its offsets.
func (e processEvents) Output(stream string, offset int64, data []byte) error {
	text, encoding := encodeBytes(data)
	return e.event(stream, offset+int64(len(data)), pieceJSON{offset, text, encoding})
}

// Truncated implements control.ProcessSink.
func (e processEvents) Truncated(offset, size int64) error {
	return e.event("truncated", offset+size, truncatedJSON{offset, size})
}
