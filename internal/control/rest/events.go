package rest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// aliveInterval is the longest silence of a stream of events. Proxies end silent ones.
const aliveInterval = 15 * time.Second

// eventStreamer writes server-sent events (HTML Standard, section 9.2). The caller calls
// pace.end when it has sent the last.
type eventStreamer struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	pace pace

	mu    sync.Mutex // serialises the following and the response
	begun bool
	buf   bytes.Buffer
}

func (s *server) newEvents(w http.ResponseWriter) *eventStreamer {
	return &eventStreamer{w: w, rc: http.NewResponseController(w), pace: s.paceOf(w)}
}

// event sends one event. A negative id is left out.
func (e *eventStreamer) event(name string, id int64, v any) error {
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

// open sends the header of the answer, before there is an event.
func (e *eventStreamer) open() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.buf.Reset()
	return e.send()
}

// send writes buf at once.
func (e *eventStreamer) send() error {
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
func (e *eventStreamer) keepAlive() (stop func()) {
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

func (e *eventStreamer) comment() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.begun {
		e.buf.Reset()
		e.buf.WriteString(": alive\n\n")
		_ = e.send() // the next event finds out that the peer has gone
	}
}
