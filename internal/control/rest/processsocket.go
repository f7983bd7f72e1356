package rest

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/wrenn-dev/wrenn/api/types"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

const (
	// processProtocol is the WebSocket subprotocol of an attached process.
	processProtocol = "wrenn.process.v1"
	// maxSocketMessage bounds a message of the client, in bytes, and socketQueue the
	// messages of input that wait for the process.
	maxSocketMessage = 64 << 10
	socketQueue      = 16
)

// socketStreams are the streams of output in the header of a message.
var socketStreams = map[string]byte{"stdout": 1, "stderr": 2, "pty": 3}

// socketEvent is a text message of the server, the schema ProcessSocketEvent.
type socketEvent struct {
	Type    string         `json:"type"`
	Process *types.Process `json:"process,omitempty"`
	Offset  *int64         `json:"offset,omitempty"`
	Bytes   *int64         `json:"bytes,omitempty"`
	Error   *errorBody     `json:"error,omitempty"`
}

// socketProcess attaches a WebSocket to a process. A failure before the first event is
// an ordinary error response.
func (s *server) socketProcess(w http.ResponseWriter, r *http.Request, id sandbox.ID, a control.ProcessAttach) {
	ctx, cancel := untilStopping(r)
	p := &processSocket{server: s, w: w, r: r, id: id, process: a.ID, ctx: ctx, cancel: cancel, input: make(chan control.ProcessInput, socketQueue)}
	end, err := s.Sandboxes.AttachProcess(ctx, id, a, p)
	switch {
	case p.conn == nil:
		cancel()
		if p.refused == nil {
			s.fail(w, r, err)
		}
		return
	case err == nil:
		out := processJSON(end)
		p.finish(websocket.StatusNormalClosure, socketEvent{Type: "exit", Process: &out})
	default:
		err = withCause(ctx, err)
		body := errorBodyOf(err)
		p.finish(websocket.StatusInternalError, socketEvent{Type: "error", Error: &body})
	}
	recordError(r.Context(), err)
}

// processSocket is a control.ProcessSink that writes to a WebSocket, whose messages it
// passes on to the process. Attached accepts it.
type processSocket struct {
	server  *server
	w       http.ResponseWriter
	r       *http.Request
	id      sandbox.ID
	process control.ProcessID
	ctx     context.Context
	cancel  context.CancelFunc
	input   chan control.ProcessInput

	conn    *websocket.Conn // nil until Attached
	refused error           // the handshake failed, and was answered
	buf     []byte
	running sync.WaitGroup
}

// Attached implements control.ProcessSink.
func (p *processSocket) Attached(process control.Process) error {
	rc := http.NewResponseController(p.w)
	_ = rc.SetReadDeadline(time.Time{})
	_ = rc.SetWriteDeadline(time.Time{})
	requestOf(p.r.Context()).effective.Store(true)
	p.conn, p.refused = websocket.Accept(p.w, p.r, &websocket.AcceptOptions{
		Subprotocols: []string{processProtocol}, CompressionMode: websocket.CompressionDisabled,
	})
	if p.refused != nil {
		return p.refused
	}
	p.conn.SetReadLimit(maxSocketMessage)
	for _, work := range []func(){p.receive, p.feed, p.ping} {
		p.running.Go(func() { p.guarded(work) })
	}
	out := processJSON(process)
	return p.event(socketEvent{Type: "process", Process: &out})
}

// guarded does work, whose panic ends the connection.
func (p *processSocket) guarded(work func()) {
	if err := fault.Caught(func() error { work(); return nil }); err != nil {
		p.server.Log.ErrorContext(p.ctx, "serving an attached process panicked", "error", err)
		p.cancel()
	}
}

// Output implements control.ProcessSink.
func (p *processSocket) Output(stream string, offset int64, data []byte) error {
	p.buf = append(p.buf[:0], socketStreams[stream])
	p.buf = append(binary.BigEndian.AppendUint64(p.buf, uint64(offset)), data...)
	return p.write(p.ctx, websocket.MessageBinary, p.buf)
}

// Truncated implements control.ProcessSink.
func (p *processSocket) Truncated(offset, size int64) error {
	return p.event(socketEvent{Type: "truncated", Offset: &offset, Bytes: &size})
}

func (p *processSocket) event(e socketEvent) error { return p.eventIn(p.ctx, e) }

func (p *processSocket) eventIn(ctx context.Context, e socketEvent) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return p.write(ctx, websocket.MessageText, text)
}

func (p *processSocket) write(ctx context.Context, t websocket.MessageType, b []byte) error {
	ctx, cancel := context.WithTimeout(ctx, p.server.StallTimeout)
	defer cancel()
	if err := p.conn.Write(ctx, t, b); err != nil {
		return fault.Wrap(err, fault.Canceled, "canceled", "the client has gone")
	}
	return nil
}

// finish sends the last event and closes the socket.
func (p *processSocket) finish(code websocket.StatusCode, last socketEvent) {
	_ = p.eventIn(p.r.Context(), last) // also when the server stops, which ends p.ctx
	_ = p.conn.Close(code, last.Type)
	p.cancel()
	_ = p.conn.CloseNow()
	p.running.Wait()
}

// receive passes on the messages of the client until it goes away.
func (p *processSocket) receive() {
	defer p.cancel()
	defer close(p.input)
	for {
		t, message, err := p.conn.Read(p.ctx)
		if err != nil {
			return
		}
		if t == websocket.MessageBinary {
			if !p.enqueue(control.ProcessInput{ID: p.process, Data: message}) {
				return
			}
			continue
		}
		call, err := socketCall(p.process, message)
		if in, ok := call.(control.ProcessInput); ok {
			if !p.enqueue(in) { // after the input before it
				return
			}
			continue
		}
		if err == nil {
			_, err = p.server.Sandboxes.CallProcess(p.ctx, p.id, call)
		}
		p.refuse(err)
	}
}

func (p *processSocket) enqueue(in control.ProcessInput) bool {
	select {
	case p.input <- in:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// feed gives the process its input, while receive goes on with other messages.
func (p *processSocket) feed() {
	for in := range p.input {
		_, err := p.server.Sandboxes.CallProcess(p.ctx, p.id, in)
		p.refuse(err)
	}
}

// refuse tells the client of a message that had no effect.
func (p *processSocket) refuse(err error) {
	if err != nil && p.ctx.Err() == nil {
		body := errorBodyOf(err)
		_ = p.event(socketEvent{Type: "refused", Error: &body})
	}
}

// ping ends the connection of a client that no longer answers.
func (p *processSocket) ping() {
	tick := time.NewTicker(aliveInterval)
	defer tick.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-tick.C:
			ctx, cancel := context.WithTimeout(p.ctx, p.server.StallTimeout)
			err := p.conn.Ping(ctx)
			cancel()
			if err != nil {
				p.cancel()
				return
			}
		}
	}
}

// socketCall reads a text message of the client.
func socketCall(id control.ProcessID, message []byte) (control.ProcessCall, error) {
	var m struct {
		Type       string `json:"type"`
		Cols, Rows int
		Signal     string
		All        bool
		Offset     int64
	}
	if json.Unmarshal(message, &m) != nil {
		return nil, fault.New(fault.Invalid, "invalid_json", "a text message must be a JSON object")
	}
	switch m.Type {
	case "resize":
		size := control.TerminalSize{Cols: m.Cols, Rows: m.Rows}
		if !validSize(size) {
			return nil, errSize
		}
		return control.ProcessResize{ID: id, Size: size}, nil
	case "signal":
		number, ok := signals[strings.TrimPrefix(m.Signal, "SIG")]
		if !ok {
			return nil, errSignal
		}
		return control.ProcessSignal{ID: id, Number: number, All: m.All}, nil
	case "close_stdin":
		return control.ProcessInput{ID: id, Close: true}, nil
	case "ack":
		if m.Offset < 0 {
			return nil, errOffset
		}
		return control.ProcessAck{ID: id, Offset: m.Offset}, nil
	}
	return nil, fault.New(fault.Invalid, "invalid_type", "type must be resize, signal, close_stdin or ack")
}

// encodeBytes returns data as text, and the encoding that Encoding names.
func encodeBytes(data []byte) (text, encoding string) {
	if utf8.Valid(data) {
		return string(data), "utf-8"
	}
	return base64.StdEncoding.EncodeToString(data), "base64"
}
