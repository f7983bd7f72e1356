package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// AttachOptions are the options of Attach.
type AttachOptions struct {
	// Offset is the first wanted byte; -1 is the end of the output so far.
	Offset int64
	// Explicit makes the caller acknowledge output with AcknowledgeProcess.
	// Otherwise the server counts sent output as acknowledged.
	Explicit bool
}

// ProcessEvent is one event of an attached process.
type ProcessEvent struct {
	// Stream is "stdout", "stderr" or "pty" for output, and empty otherwise.
	Stream string
	// Offset is that of the first byte of Data, or of the truncated bytes.
	Offset int64
	Data   []byte
	// Truncated is the number of bytes that are no longer kept, if the event tells of
	// such.
	Truncated int64
	// Process is the process at the begin, and with its end in the last event.
	Process *Process
	// Exited marks the last event.
	Exited bool
}

// Attachment reads the output of a process. One goroutine uses it; Close may be called
// from any.
type Attachment struct {
	*sentEvents
	ended bool
}

// Attach reads the output of a process, from an offset on. The end of ctx ends the
// reader and not the process.
func (c *Client) Attach(ctx context.Context, id, process string, opt AttachOptions) (*Attachment, error) {
	path, err := processPath(id, process, "/attach")
	if err != nil {
		return nil, err
	}
	events, err := c.openEvents(ctx, request{method: http.MethodGet, path: path, query: offsetParam(opt.Offset, opt.Explicit)})
	if err != nil {
		return nil, err
	}
	return &Attachment{sentEvents: events}, nil
}

// Next returns the next event. After the last it returns io.EOF. A stream that is silent
// for a minute has broken, because the server sends something more often. An *Error, such as the
// one with the code "sandbox_paused", or a broken connection leaves the process
// running: Attach continues at the offset after the last event.
func (a *Attachment) Next() (*ProcessEvent, error) {
	if a.ended {
		return nil, io.EOF
	}
	for {
		name, data, err := a.next()
		if err != nil {
			return nil, fmt.Errorf("client: the stream broke off before the process ended: %w", err)
		}
		if event, err := a.decode(name, data); event != nil || err != nil {
			return event, err
		}
	}
}

// decode returns an event, or nil for one of an unknown type, which a later server may
// send.
func (a *Attachment) decode(name string, data []byte) (*ProcessEvent, error) {
	switch name {
	case "stdout", "stderr", "pty":
		var piece struct {
			Offset         int64
			Data, Encoding string
		}
		if err := json.Unmarshal(data, &piece); err != nil {
			return nil, badEvent(err)
		}
		p, err := decodeOutput(piece.Data, piece.Encoding)
		return &ProcessEvent{Stream: name, Offset: piece.Offset, Data: p}, err
	case "truncated":
		var gap struct{ Offset, Bytes int64 }
		if err := json.Unmarshal(data, &gap); err != nil {
			return nil, badEvent(err)
		}
		return &ProcessEvent{Offset: gap.Offset, Truncated: gap.Bytes}, nil
	case "process", "exit":
		p := new(Process)
		if err := json.Unmarshal(data, p); err != nil {
			return nil, badEvent(err)
		}
		a.ended = name == "exit"
		return &ProcessEvent{Process: p, Exited: a.ended}, nil
	case "error":
		return nil, a.failure(data)
	}
	return nil, nil
}

// ackShare is the part of a journal, one of so many, after which Follow acknowledges
// output.
const ackShare = 4

// Follow reads the output of a process from an offset on until its end and hands it to
// handle, in order and every byte once, whatever connections break in between: it
// attaches again and acknowledges what handle has taken, so that a process with
// OnFullBlock loses nothing. retry is asked after each failure whether to attach again;
// it may wait. An error of handle ends Follow and is returned.
func (c *Client) Follow(ctx context.Context, id, process string, offset int64, handle func(*ProcessEvent) error, retry func(error) bool) (*Process, error) {
	f := &follower{client: c, id: id, process: process, next: offset, acked: offset, handle: handle}
	for {
		end, err := f.attach(ctx)
		var stop handleError
		switch {
		case err == nil:
			return end, nil
		case errors.As(err, &stop):
			return nil, stop.err
		case ctx.Err() != nil || !retry(err):
			return nil, err
		}
	}
}

// follower is one Follow.
type follower struct {
	client      *Client
	id, process string
	next, acked int64
	ackEvery    int64 // 0 without acknowledgements
	handle      func(*ProcessEvent) error
}

// handleError is an error of the caller's function, which ends Follow.
type handleError struct{ err error }

func (e handleError) Error() string { return e.err.Error() }

// attach follows the process until its end or an error.
func (f *follower) attach(ctx context.Context) (*Process, error) {
	a, err := f.client.Attach(ctx, f.id, f.process, AttachOptions{Offset: f.next, Explicit: true})
	if err != nil {
		return nil, err
	}
	defer a.Close()
	for {
		event, err := a.Next()
		if err != nil {
			return nil, err
		}
		if p := event.Process; p != nil && p.OnFull == OnFullBlock {
			f.ackEvery = int64(p.JournalBytes) / ackShare
		}
		if err := f.handle(event); err != nil {
			return nil, handleError{err}
		}
		if event.Exited {
			return event.Process, nil
		}
		if size := int64(len(event.Data)) + event.Truncated; size > 0 {
			f.next = event.Offset + size
		}
		if f.ackEvery > 0 && f.next-f.acked >= f.ackEvery {
			if err := f.client.AcknowledgeProcess(ctx, f.id, f.process, f.next); err != nil {
				return nil, err
			}
			f.acked = f.next
		}
	}
}

// Retryable reports whether a failure of an attach may be over soon: a connection that
// broke, or a server that has no answer now. Others, such as an unknown process, stay.
func Retryable(err error) bool {
	var failure *Error
	if !errors.As(err, &failure) {
		return true
	}
	return failure.Status >= http.StatusInternalServerError || failure.Status == http.StatusTooManyRequests ||
		strings.HasPrefix(failure.Code, "host_")
}
