package rest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// The three forms of the schema ExecEvent.
type (
	outputEvent struct {
		Type     string `json:"type"` // "stdout" or "stderr"
		Data     string `json:"data"`
		Encoding string `json:"encoding"`
	}
	exitEvent struct {
		Type       string  `json:"type"` // "exit"
		ExitCode   int     `json:"exit_code"`
		Signal     *string `json:"signal"`
		OOM        bool    `json:"oom"`
		DurationMS int64   `json:"duration_ms"`
	}
	errorEvent struct {
		Type  string    `json:"type"` // "error"
		Error errorBody `json:"error"`
	}
)

// streamExec answers with one event per line while the command runs. A failure
// before the first event is an ordinary error response.
func (s *server) streamExec(w http.ResponseWriter, r *http.Request, id sandbox.ID, e control.Exec) {
	sink := newEventWriter(w, s.StallTimeout)
	defer sink.pace.end()
	result, err := s.Sandboxes.Exec(r.Context(), id, e, sink)
	if err != nil {
		err = hintCommandLine(e, err)
	}
	switch {
	case err == nil:
		err = sink.finish(exitEvent{"exit", result.ExitCode, nullable(result.Signal), result.OutOfMemory, result.Duration.Milliseconds()})
	case !sink.begun:
		s.fail(w, r, err)
		return
	default:
		err = withCause(r.Context(), err)
		_ = sink.finish(errorEvent{"error", errorBodyOf(err)}) // the caller may be the one who ended it
	}
	recordError(r.Context(), err)
}

// eventWriter is a control.ExecSink that writes events to a response.
//
// Invariants: begun is set before the first byte goes out; tail holds, per
// stream, at most the beginning of one UTF-8 character, which waits for its
// end.
type eventWriter struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	pace pace

	mu    sync.Mutex // serialises the following and the response
	begun bool
	tail  map[string][]byte
}

func newEventWriter(w http.ResponseWriter, stall time.Duration) *eventWriter {
	rc := http.NewResponseController(w)
	return &eventWriter{w: w, rc: rc, pace: pace{rc, stall}, tail: make(map[string][]byte)}
}

// Stdout implements control.ExecSink.
func (ew *eventWriter) Stdout(p []byte) error { return ew.output("stdout", p) }

// Stderr implements control.ExecSink.
func (ew *eventWriter) Stderr(p []byte) error { return ew.output("stderr", p) }

func (ew *eventWriter) output(stream string, p []byte) error {
	ew.mu.Lock()
	defer ew.mu.Unlock()
	p = append(ew.tail[stream], p...)
	rest := partialRune(p)
	ew.tail[stream] = bytes.Clone(rest)
	return ew.writeOutput(stream, p[:len(p)-len(rest)])
}

// finish writes the bytes of incomplete characters, and the last event.
func (ew *eventWriter) finish(last any) error {
	ew.mu.Lock()
	defer ew.mu.Unlock()
	for _, stream := range []string{"stdout", "stderr"} {
		if err := ew.writeOutput(stream, ew.tail[stream]); err != nil {
			return err
		}
	}
	return ew.write(last)
}

func (ew *eventWriter) writeOutput(stream string, p []byte) error {
	switch {
	case len(p) == 0:
		return nil
	case utf8.Valid(p):
		return ew.write(outputEvent{stream, string(p), "utf-8"})
	default:
		return ew.write(outputEvent{stream, base64.StdEncoding.EncodeToString(p), "base64"})
	}
}

// write sends one line at once.
func (ew *eventWriter) write(event any) error {
	if !ew.begun {
		ew.begun = true
		h := ew.w.Header()
		h.Set("Content-Type", ndjson)
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Accel-Buffering", "no") // or nginx would hold the lines back
		ew.w.WriteHeader(http.StatusOK)
	}
	ew.pace.writing()
	enc := json.NewEncoder(ew.w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(event); err != nil {
		return err
	}
	return ew.rc.Flush()
}
