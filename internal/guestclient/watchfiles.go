package guestclient

import (
	"context"
	"time"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// WatchFiles hands the changes in a directory to send, the event that the watch is armed
// first, until ctx or the watch ends or send fails; it never returns nil. A guest whose
// events break the protocol is HostFailed guest_failed.
func (c *Client) WatchFiles(ctx context.Context, call *guestv1.WatchFilesCall, send func(*guestv1.WatchFilesEvent) error) error {
	x, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer x.finish(false)
	if err := x.call(guestwire.Watch, call); err != nil {
		return err
	}
	begun, armed, empty := time.Now(), false, 0
	for {
		t, payload, err := x.conn.reader.Frame(maxMessageBytes)
		switch {
		case err != nil && !armed:
			return c.orUnsupported(ctx, x.fail(unexpectedEOF(err)))
		case err != nil:
			return x.fail(unexpectedEOF(err))
		case t == guestwire.Failure:
			return x.failure(payload)
		}
		event := &guestv1.WatchFilesEvent{}
		if t != guestwire.Event || decode(payload, event) != nil || !plainChange(event, armed) {
			return x.fail(errDisorder)
		}
		armed = true
		if event.GetKind() == guestv1.WatchFilesEvent_KIND_UNSPECIFIED {
			if empty++; empty > emptyBurst+int(time.Since(begun).Seconds()) {
				return x.fail(errDisorder)
			}
			continue
		}
		if err := send(event); err != nil {
			return err
		}
	}
}

// plainChange reports whether e may come from an honest guest: READY first and once,
// and a name with every change.
func plainChange(e *guestv1.WatchFilesEvent, armed bool) bool {
	_, known := guestv1.WatchFilesEvent_Kind_name[int32(e.GetKind())]
	switch kind := e.GetKind(); {
	case !known, armed == (kind == guestv1.WatchFilesEvent_KIND_READY):
		return false
	case kind == guestv1.WatchFilesEvent_KIND_READY, kind == guestv1.WatchFilesEvent_KIND_UNSPECIFIED:
		return len(e.GetName()) == 0
	default:
		return plainName(e.GetName()) && string(e.GetName()) != "/"
	}
}
