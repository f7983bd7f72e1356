// Package duplex lets a handler of net/http answer while the body of its request is still
// arriving, and ends such a request in good order.
//
// Packages rest and traffic call it. It owns the body of one request at a time, from
// [Begin] to [Exchange.End]. It never starts a goroutine.
//
// A handler with HTTP/1 that answers early needs net/http's full duplex mode, and that mode
// leaves the rest of the body to the handler: if the handler returns before the body has
// ended, net/http finds the end itself, begins to watch the connection for its next request,
// and panics with "invalid concurrent Body.Read call" once that request is read
// (golang/go#68560). So End reads the rest, within bounds of bytes and time, and has the
// connection closed if the body goes on.
//
// # Guarantees
//
//  1. A connection whose body End could read whole serves its next request
//     (TestConnectionIsKept).
//  2. The end of an answer does not wait for that of a body (TestAnswerEndsBeforeTheBody).
//  3. A client that still sends its body gets the whole answer (TestAnswerReachesASender).
//  4. An aborted handler closes its connection at once (TestAbortClosesTheConnection).
package duplex

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxRest bounds the rest of a body that End reads, in bytes. It is the bound of
	// net/http for bodies that a handler has left unread.
	maxRest = 256 << 10
	// settle is the time for a rest that has arrived already: the answer's end waits for it.
	settle = 5 * time.Millisecond
)

// Exchange is a request with HTTP/1 whose answer may begin before its body ends. With other
// versions it does nothing. Its methods are for the handler's goroutine; Body may be read in
// another one.
type Exchange struct {
	w     *hijackNoter
	body  io.ReadCloser // nil if End has nothing to do
	read  sync.Mutex    // one read of body at a time
	ended atomic.Bool   // the body has been read whole
}

// Begin permits the answer to r to begin before r's body ends. It returns the writer and
// the request to go on with. The caller must call End as the last act of its handler.
func Begin(w http.ResponseWriter, r *http.Request) (*Exchange, http.ResponseWriter, *http.Request) {
	x := &Exchange{}
	if r.ProtoMajor != 1 || r.Body == nil || r.Body == http.NoBody {
		return x, w, r
	}
	// Writers in tests that are not connections do not have this switch and do not need it.
	_ = http.NewResponseController(w).EnableFullDuplex()
	x.w, x.body = &hijackNoter{ResponseWriter: w}, r.Body
	own := *r
	own.Body = exchangeBody{x}
	return x, x.w, &own
}

// End reads the rest of the body. If the answer's head tells its length, so that the client
// has all of it, End waits for the rest for up to linger. Otherwise it takes the rest that
// has arrived.
//
// If aborted, the handler is about to panic: End does not wait.
func (x *Exchange) End(linger time.Duration, aborted bool) {
	if x.body == nil || x.w.hijacked || x.ended.Load() {
		return
	}
	rc := http.NewResponseController(x.w)
	if aborted {
		// A read of another goroutine may be under way: this deadline ends it. net/http would
		// set its own one back and wait for the rest.
		_ = rc.SetReadDeadline(time.Now())
		_ = x.body.Close()
		return
	}
	_ = rc.Flush()
	wait := settle
	if x.w.Header().Get("Content-Length") != "" {
		wait = max(linger, settle)
	}
	_ = rc.SetReadDeadline(time.Now().Add(wait))
	_, err := io.CopyN(io.Discard, exchangeBody{x}, maxRest)
	if !errors.Is(err, io.EOF) {
		x.closeConnection()
	}
	_ = x.body.Close()
	_ = rc.SetReadDeadline(time.Time{})
}

// closeConnection has net/http close the connection after the answer. A connection with
// unread input that is just closed is reset, which can take the answer from the client. A
// body that is too large is the one case in which net/http closes its own direction first
// and waits, so this declares the body as such.
func (x *Exchange) closeConnection() {
	_, _ = io.Copy(io.Discard, http.MaxBytesReader(below(x.w), io.NopCloser(strings.NewReader("too large")), 0))
}

// below returns the writer of net/http, which its middleware has wrapped.
func below(w http.ResponseWriter) http.ResponseWriter {
	for {
		inner, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = inner.Unwrap()
	}
}

// exchangeBody notes the end of the body.
type exchangeBody struct{ x *Exchange }

// Read implements io.Reader.
func (b exchangeBody) Read(p []byte) (int, error) {
	b.x.read.Lock()
	defer b.x.read.Unlock()
	n, err := b.x.body.Read(p)
	if errors.Is(err, io.EOF) {
		b.x.ended.Store(true)
	}
	return n, err
}

// Close implements io.Closer. The body stays open until End.
func (b exchangeBody) Close() error { return nil }

// hijackNoter notes that the handler has taken over the connection, and with it the body.
type hijackNoter struct {
	http.ResponseWriter
	hijacked bool
}

// Unwrap is for http.ResponseController.
func (n *hijackNoter) Unwrap() http.ResponseWriter { return n.ResponseWriter }

// Hijack implements http.Hijacker.
func (n *hijackNoter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(n.ResponseWriter).Hijack()
	n.hijacked = n.hijacked || err == nil
	return conn, buffered, err
}
