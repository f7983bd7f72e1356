package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

// maxQMPMessage bounds one message of the VMM, which parses guest input and
// is not trusted more than the guest is.
const maxQMPMessage = 1 << 20

// errQMPClosed is returned by calls on a monitor whose connection has ended.
var errQMPClosed = errors.New("the QMP connection is closed")

// qmpError is an error answer of QEMU.
type qmpError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

// maxErrorText bounds the part of an error answer that is kept, in bytes.
const maxErrorText = 1 << 10

// Error returns one printable line: the VMM may have been taken over by its guest.
func (e *qmpError) Error() string {
	return "qmp: " + untrusted.Line(e.Class, 64) + ": " + untrusted.Line(e.Desc, maxErrorText)
}

// event is an asynchronous message of QEMU.
type event struct {
	Name string          `json:"event"`
	Data json.RawMessage `json:"data"`
}

type message struct {
	Greeting json.RawMessage `json:"QMP"`
	Return   json.RawMessage `json:"return"`
	Error    *qmpError       `json:"error"`
	ID       *uint64         `json:"id"`
	event
}

// monitor is a QMP client (QEMU docs, interop/qmp-spec) on one connection.
//
// Invariants: one goroutine reads; every pending call is answered exactly once,
// by its reply or by the end of the connection; onEvent is called from the
// reading goroutine, in order, and never after done is closed.
type monitor struct {
	conn    net.Conn
	onEvent func(event)
	done    chan struct{} // closed when the connection has ended

	mu      sync.Mutex // protects the following, and writes to conn
	nextID  uint64
	pending map[uint64]chan message
	closed  bool
}

// newMonitor reads the greeting, negotiates capabilities and starts reading.
// It takes over conn, also when it fails.
func newMonitor(ctx context.Context, conn net.Conn, onEvent func(event)) (*monitor, error) {
	m := &monitor{conn: conn, onEvent: onEvent, done: make(chan struct{}), pending: make(map[uint64]chan message)}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 0, 4096), maxQMPMessage)
	var greeting message
	if err := readMessage(lines, &greeting); err != nil || greeting.Greeting == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("read QMP greeting: %w", errors.Join(err, ctx.Err()))
	}
	go func() {
		defer m.end()
		_ = fault.Caught(func() error { m.read(lines); return nil }) // a panic ends the connection
	}()
	if err := m.call(ctx, "qmp_capabilities", nil, nil); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func readMessage(lines *bufio.Scanner, into *message) error {
	if !lines.Scan() {
		if err := lines.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	return json.Unmarshal(lines.Bytes(), into)
}

func (m *monitor) read(lines *bufio.Scanner) {
	for {
		var msg message
		if err := readMessage(lines, &msg); err != nil {
			return
		}
		switch {
		case msg.ID != nil:
			m.mu.Lock()
			reply, ok := m.pending[*msg.ID]
			delete(m.pending, *msg.ID)
			m.mu.Unlock()
			if ok {
				reply <- msg
			}
		case msg.Name != "":
			m.onEvent(msg.event)
		}
	}
}

// end fails every pending call.
func (m *monitor) end() {
	_ = m.conn.Close()
	m.mu.Lock()
	m.closed = true
	for id, reply := range m.pending {
		delete(m.pending, id)
		close(reply)
	}
	m.mu.Unlock()
	close(m.done)
}

// ended reports whether the connection has ended.
func (m *monitor) ended() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// close ends the connection and waits for the reading goroutine.
func (m *monitor) close() {
	_ = m.conn.Close()
	<-m.done
}

// call runs one command and decodes its answer into out unless that is nil.
// When ctx ends first the command may still take effect.
func (m *monitor) call(ctx context.Context, command string, args, out any) error {
	return m.callWithFile(ctx, command, nil, args, out)
}

// callWithFile is call, and hands over a duplicate of f, unless that is nil, in
// the same message, as commands that take a descriptor want it.
func (m *monitor) callWithFile(ctx context.Context, command string, f *os.File, args, out any) error {
	id, reply, err := m.send(ctx, command, f, args)
	if err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	select {
	case <-ctx.Done():
		m.mu.Lock()
		delete(m.pending, id)
		m.mu.Unlock()
		return fmt.Errorf("qmp %s: %w", command, context.Cause(ctx))
	case msg, ok := <-reply:
		switch {
		case !ok:
			return fmt.Errorf("qmp %s: %w", command, errQMPClosed)
		case msg.Error != nil:
			return fmt.Errorf("qmp %s: %w", command, msg.Error)
		case out == nil:
			return nil
		default:
			return json.Unmarshal(msg.Return, out)
		}
	}
}

// send writes one command and returns its number, and the channel of its answer.
func (m *monitor) send(ctx context.Context, command string, f *os.File, args any) (uint64, <-chan message, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return 0, nil, errQMPClosed
	}
	m.nextID++
	data, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, args, m.nextID})
	if err != nil {
		return 0, nil, err
	}
	reply := make(chan message, 1)
	m.pending[m.nextID] = reply
	if err := m.write(ctx, append(data, '\n'), f); err != nil {
		delete(m.pending, m.nextID)
		return 0, nil, err
	}
	return m.nextID, reply, nil
}

// write has until ctx's deadline, and answerTimeout at most: the socket buffer
// takes a few hundred commands of a VMM that has stopped reading, and no more. A
// command that was written in part ends the connection.
func (m *monitor) write(ctx context.Context, data []byte, f *os.File) (err error) {
	limit := time.Now().Add(answerTimeout)
	if at, ok := ctx.Deadline(); ok && at.Before(limit) {
		limit = at
	}
	if err := m.conn.SetWriteDeadline(limit); err != nil {
		return err
	}
	n := 0
	defer func() {
		if err != nil && n > 0 {
			_ = m.conn.Close()
		}
	}()
	if f == nil {
		n, err = m.conn.Write(data)
		return err
	}
	conn, ok := m.conn.(*net.UnixConn)
	if !ok {
		return errors.New("descriptors are only passed on unix sockets")
	}
	n, _, err = conn.WriteMsgUnix(data, unix.UnixRights(int(f.Fd())), nil)
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	return err
}
