package hostclient

import (
	"context"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// WatchFiles implements control.Host.
func (c *Client) WatchFiles(ctx context.Context, ref sandbox.Ref, w control.FileWatch, sink func(control.FileEvent) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	call := &guestv1.WatchFilesCall{Path: w.Path, Recursive: w.Recursive}
	stream, err := c.rpc.WatchFiles(ctx, connect.NewRequest(&hostv1.WatchFilesRequest{Ref: refToProto(ref), Call: call}))
	if err != nil {
		return faultOf(ctx, err)
	}
	defer stream.Close()
	defer cancel() // Close would otherwise wait for further events
	for stream.Receive() {
		event := stream.Msg().GetEvent()
		kind, known := fileEventTypes[event.GetKind()]
		if !known {
			continue
		}
		if err := sink(control.FileEvent{Type: kind, Name: string(event.GetName())}); err != nil {
			return err
		}
	}
	if stream.Err() == nil {
		return broken("the watch ended without a reason")
	}
	return faultOf(ctx, stream.Err())
}

// fileEventTypes are the kinds of events in the words of the API.
var fileEventTypes = map[guestv1.WatchFilesEvent_Kind]control.FileEventType{
	guestv1.WatchFilesEvent_KIND_READY: control.FileWatchReady, guestv1.WatchFilesEvent_KIND_OVERFLOW: control.FileWatchOverflow,
	guestv1.WatchFilesEvent_KIND_CREATED: control.FileCreated, guestv1.WatchFilesEvent_KIND_WRITTEN: control.FileWritten,
	guestv1.WatchFilesEvent_KIND_REMOVED: control.FileRemoved, guestv1.WatchFilesEvent_KIND_RENAMED: control.FileRenamed,
	guestv1.WatchFilesEvent_KIND_ATTRIBUTES: control.FileAttributes,
}
