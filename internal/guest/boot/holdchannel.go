package boot

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A request of an agent to Init is its number and a letter. The answer is the number
// of the request, the number of processes and the text of an error, or none.
const (
	holdLetter    = 'h'
	releaseLetter = 'r'

	requestBytes = 8 + 1
	answerHeader = 8 + 4
	answerBytes  = answerHeader + 400
)

// HoldChannel is an agent's end of a connection with Init, which holds user processes.
// It implements agent.Freezer. Its methods must not be called at the same time.
type HoldChannel struct {
	conn   *os.File
	number uint64
}

// OpenHoldChannel returns the HoldChannel whose connection is open as conn, as
// inherited.
func OpenHoldChannel(conn *os.File) *HoldChannel { return &HoldChannel{conn: conn} }

// holdPatience is how long Init may take for a request beyond freezeTimeout.
const holdPatience = 5 * time.Second

// Freeze stops every user process and returns once all have stopped, with their
// number. On error some may be stopped: Thaw must follow.
func (c *HoldChannel) Freeze(ctx context.Context) (frozen int, err error) {
	return c.ask(ctx, holdLetter)
}

// Thaw continues the processes that Freeze has stopped, those of an earlier agent too.
// It is idempotent.
func (c *HoldChannel) Thaw(ctx context.Context) error {
	_, err := c.ask(ctx, releaseLetter)
	return err
}

// ask sends a request and returns its answer. Answers to earlier requests, which the
// agent no longer waited for, are dropped.
func (c *HoldChannel) ask(ctx context.Context, letter byte) (processes int, err error) {
	c.number++
	request := append(binary.NativeEndian.AppendUint64(nil, c.number), letter)
	deadline := time.Now().Add(freezeTimeout + holdPatience)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := c.conn.SetDeadline(deadline); err != nil {
		return 0, fmt.Errorf("ask Init: %w", err)
	}
	if _, err := c.conn.Write(request); err != nil {
		return 0, fmt.Errorf("ask Init: %w", err)
	}
	answer := make([]byte, answerBytes)
	for {
		n, err := c.conn.Read(answer)
		if err != nil {
			return 0, fmt.Errorf("wait for Init: %w", err)
		}
		if n < answerHeader || binary.NativeEndian.Uint64(answer) != c.number {
			continue
		}
		if text := string(answer[answerHeader:n]); text != "" {
			return 0, errors.New(text)
		}
		return int(binary.NativeEndian.Uint32(answer[8:])), nil
	}
}

// holdRequest is a request of an agent, as Init reads it.
type holdRequest struct {
	from   *os.File
	number uint64
	letter byte
}

// holdPair returns the two ends of a new connection. Both keep the boundaries of messages.
func holdPair() (inits, agents *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("connect Init with its agent: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "hold"), os.NewFile(uintptr(fds[1]), "hold"), nil
}

// readRequests sends the requests of one agent to requests, until the agent ends.
func readRequests(from *os.File, requests chan<- holdRequest) {
	defer from.Close()
	message := make([]byte, requestBytes)
	for {
		n, err := from.Read(message)
		if err != nil || n == 0 {
			return
		}
		if n == requestBytes {
			requests <- holdRequest{from, binary.NativeEndian.Uint64(message), message[8]}
		}
	}
}

// serve carries out a request and answers it. An agent that has ended gets no answer.
func (h *holder) serve(r holdRequest) {
	ctx, cancel := context.WithTimeout(context.Background(), freezeTimeout)
	defer cancel()
	processes, err := 0, error(nil)
	switch r.letter {
	case holdLetter:
		processes, err = h.hold(ctx)
	case releaseLetter:
		h.release()
	default:
		err = errors.New("unknown request")
	}
	answer := binary.NativeEndian.AppendUint64(nil, r.number)
	answer = binary.NativeEndian.AppendUint32(answer, uint32(processes))
	if err != nil {
		answer = append(answer, err.Error()...)
	}
	_, _ = r.from.Write(answer[:min(len(answer), answerBytes)])
}
