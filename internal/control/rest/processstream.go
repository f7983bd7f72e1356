package rest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// aliveInterval is the longest silence of a stream of events. Proxies end silent ones.
const aliveInterval = 15 * time.Second

// streamProcess answers with the output of a process as server-sent events. A failure
// before the first event is an ordinary error response.
func (s *server) streamProcess(w http.ResponseWriter, r *http.Request, id sandbox.ID, a control.ProcessAttach) {
	sink := &processEvents{w: w, rc: http.NewResponseController(w), pace: s.paceOf(w)}
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

// processEvents is a control.ProcessSink that writes events (HTML Standard, section
// 9.2). The id of an event is the offset after it, so that Last-Event-ID continues
// where the last event ended.
type processEvents struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	pace pace

	mu    sync.Mutex // serialises the following and the response
	begun bool
	buf   bytes.Buffer
}

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
func (e *processEvents) Attached(p control.Process) error {
	return e.event("process", -1, processJSON(p))
}

// Output implements control.ProcessSink. A character may be split between two events,
// which are then base64: each event has the bytes of its offsets.
func (e *processEvents) Output(stream string, offset int64, data []byte) error {
	text, encoding := encodeBytes(data)
	return e.event(stream, offset+int64(len(data)), pieceJSON{offset, text, encoding})
}

// Truncated implements control.ProcessSink.
func (e *processEvents) Truncated(offset, size int64) error {
	return e.event("truncated", offset+size, truncatedJSON{offset, size})
}

// event sends one event. A negative id is left out.
func (e *processEvents) event(name string, id int64, v any) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.buf.Reset()
	e.buf.WriteString("event: " + name + "\n")
	if id >= 0 {
		e.buf.WriteString("id: " + strconv.FormatInt(id, 10) + "\n")
	}
	e.buf.WriteString("data: ")
	enc := json.NewEncoder(&e.buf) // which ends with a line feed
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	e.buf.WriteByte('\n')
	return e.send()
}

// send writes buf at once.
func (e *processEvents) send() error {
	if !e.begun {
		e.begun = true
		h := e.w.Header()
		h.Set("Content-Type", eventStream)
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Accel-Buffering", "no") // or nginx would hold the events back
		e.w.WriteHeader(http.StatusOK)
	}
	e.pace.writing()
	if _, err := e.w.Write(e.buf.Bytes()); err != nil {
		return err
	}
	return e.rc.Flush()
}

// keepAlive sends a comment from time to time, until stop is called.
func (e *processEvents) keepAlive() (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(aliveInterval)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if fault.Caught(func() error { e.comment(); return nil }) != nil {
					return
				}
			}
		}
	}()
	return func() { close(done); <-ended }
}

func (e *processEvents) comment() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.begun {
		e.buf.Reset()
		e.buf.WriteString(": alive\n\n")
		_ = e.send() // the next event finds out that the peer has gone
	}
}
