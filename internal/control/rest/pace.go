package rest

import (
	"io"
	"net/http"
	"time"
)

// pace cuts off a peer that moves no byte for too long. Without it, a stalled
// transfer would prevent a pause of its sandbox without a limit. Connections
// without deadlines, as in tests, are not cut off.
type pace struct {
	rc    *http.ResponseController
	stall time.Duration
}

// paceOf returns the pace of the response w.
func (s *server) paceOf(w http.ResponseWriter) pace {
	return pace{http.NewResponseController(w), s.StallTimeout}
}

// reading starts the clock for one read of the request's body.
func (p pace) reading() { _ = p.rc.SetReadDeadline(time.Now().Add(p.stall)) }

// writing starts the clock for one write of the response.
func (p pace) writing() { _ = p.rc.SetWriteDeadline(time.Now().Add(p.stall)) }

// end stops both clocks. A handler calls it on its way out, since net/http
// keeps the write deadline for the next request on the connection.
func (p pace) end() {
	_ = p.rc.SetReadDeadline(time.Time{})
	_ = p.rc.SetWriteDeadline(time.Time{})
}

// pacedReader reads the request's body under p's clock. The clock is stopped
// between reads, when the peer is not the slow side.
type pacedReader struct {
	io.Reader
	pace pace
}

func (r pacedReader) Read(b []byte) (int, error) {
	r.pace.reading()
	n, err := r.Reader.Read(b)
	_ = r.pace.rc.SetReadDeadline(time.Time{})
	return n, err
}

// pacedWriter writes the response under p's clock.
type pacedWriter struct {
	io.Writer
	pace pace
}

func (w pacedWriter) Write(b []byte) (int, error) {
	w.pace.writing()
	return w.Writer.Write(b)
}

// maxLinger is the longest that net/http may wait, after a handler's answer, for
// the rest of the request's body.
const maxLinger = 5 * time.Second

// leaveBody bounds that wait. net/http sets its own deadline again for the next
// request.
func leaveBody(w http.ResponseWriter, stall time.Duration) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(min(stall, maxLinger)))
}
