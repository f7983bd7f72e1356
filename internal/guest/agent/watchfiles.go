package agent

import (
	"context"
	"sync"
	"time"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/filesystem"
)

// maxWaitingChanges is the number of changes that wait for a slow reader. Further ones
// are lost, and the reader is told. The bound is the agent's own because not every
// kernel bounds its queue.
const maxWaitingChanges = 4096

// WatchFiles hands every change in a directory to send, after an event that the watch is
// armed, until ctx ends or the directory goes. ctx must come from Epoch.Bind.
func (a *Agent) WatchFiles(ctx context.Context, call *guestv1.WatchFilesCall, send func(*guestv1.WatchFilesEvent) error) error {
	actor, err := a.Actor(ctx, "")
	if err != nil {
		return err
	}
	path, err := actor.Resolve(call.GetPath())
	if err != nil {
		return err
	}
	watch, err := a.files.Watch(filesystem.WatchSpec{Path: path, Recursive: call.GetRecursive(), KeepOn: true})
	if err != nil {
		return err
	}
	defer watch.Close()
	if err := send(&guestv1.WatchFilesEvent{Kind: guestv1.WatchFilesEvent_KIND_READY}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	changes := &changes{more: make(chan struct{}, 1)}
	ended := make(chan error, 1)
	go func() {
		defer close(ended)
		ended <- fault.Caught(func() error { return watch.Run(ctx, changes.put) })
	}()
	err = changes.relay(ctx, ended, send)
	cancel()
	for range ended { // until the goroutine has gone
	}
	return err
}

// changes is a bounded queue of changes.
type changes struct {
	more chan struct{} // has an element if the queue may have changed

	mu     sync.Mutex // protects the following
	events []filesystem.Event
	lost   bool
}

// put adds a change.
func (c *changes) put(e filesystem.Event) error {
	c.mu.Lock()
	if len(c.events) < maxWaitingChanges {
		c.events = append(c.events, e)
	} else {
		c.lost = true
	}
	c.mu.Unlock()
	select {
	case c.more <- struct{}{}:
	default:
	}
	return nil
}

// take removes all changes. The loss of some comes last.
func (c *changes) take() []filesystem.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	events := c.events
	if c.lost {
		events = append(events, filesystem.Event{Name: ".", Type: filesystem.Overflowed})
	}
	c.events, c.lost = nil, false
	return events
}

// relay sends changes, and keepalives between them, until the watch has ended.
func (c *changes) relay(ctx context.Context, ended <-chan error, send func(*guestv1.WatchFilesEvent) error) error {
	alive := time.NewTicker(DefaultKeepalive)
	defer alive.Stop()
	for {
		select {
		case err := <-ended:
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		case <-alive.C:
			if err := send(&guestv1.WatchFilesEvent{}); err != nil {
				return err
			}
		case <-c.more:
			for _, e := range c.take() {
				if err := send(&guestv1.WatchFilesEvent{Kind: changeKinds[e.Type], Name: []byte(e.Name)}); err != nil {
					return err
				}
				if e.Name == "." && (e.Type == filesystem.Removed || e.Type == filesystem.Renamed) {
					return fault.New(fault.NotFound, filesystem.ReasonNotFound, "the watched directory was removed or moved")
				}
			}
		}
	}
}

// changeKinds are the types of events as in files.proto.
var changeKinds = map[filesystem.EventType]guestv1.WatchFilesEvent_Kind{
	filesystem.Created: guestv1.WatchFilesEvent_KIND_CREATED, filesystem.Renamed: guestv1.WatchFilesEvent_KIND_RENAMED,
	filesystem.Chmodded: guestv1.WatchFilesEvent_KIND_ATTRIBUTES, filesystem.Written: guestv1.WatchFilesEvent_KIND_WRITTEN,
	filesystem.Removed: guestv1.WatchFilesEvent_KIND_REMOVED, filesystem.Overflowed: guestv1.WatchFilesEvent_KIND_OVERFLOW,
}
