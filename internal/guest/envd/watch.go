package envd

import (
	"context"
	"time"

	"connectrpc.com/connect"

	pb "github.com/wrenn-dev/wrenn/api/gen/filesystem"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
	"github.com/wrenn-dev/wrenn/internal/guest/filesystem"
)

// WatchDir implements filesystem.Filesystem. Its timeout is the lifetime of the
// watch.
func (f filesystemService) WatchDir(ctx context.Context, req *connect.Request[pb.WatchDirRequest], stream *connect.ServerStream[pb.WatchDirResponse]) error {
	_, path, err := f.resolve(ctx, req.Header(), req.Msg.GetPath())
	if err != nil {
		return faultrpc.ToConnect(err)
	}
	watch, err := f.server.agent.Files().Watch(filesystem.WatchSpec{
		Path: path, Recursive: req.Msg.GetRecursive(), Entries: req.Msg.GetIncludeEntry(), Network: req.Msg.GetAllowNetworkMounts(),
	})
	if err != nil {
		return faultrpc.ToConnect(err)
	}
	defer watch.Close()
	start := &pb.WatchDirResponse{Event: &pb.WatchDirResponse_Start{Start: &pb.WatchDirResponse_StartEvent{}}}
	if err := stream.Send(start); err != nil {
		return err
	}
	return f.relay(ctx, watch, keepaliveOf(req.Header()), stream.Send)
}

// relay sends the events of watch until ctx or the lifetime of the call ends.
// The watch runs on a goroutine of its own, because its events must not interleave
// with keepalives.
func (f filesystemService) relay(ctx context.Context, watch *filesystem.Watch, keepalive time.Duration, send func(*pb.WatchDirResponse) error) error {
	expired, free := expiry(lifetimeOf(ctx))
	defer free()
	running, cancel := context.WithCancel(ctx)
	events, ended := make(chan filesystem.Event), make(chan error, 1)
	go func() {
		ended <- watch.Run(running, func(e filesystem.Event) error {
			select {
			case events <- e:
				return nil
			case <-running.Done():
				return running.Err()
			}
		})
	}()
	finish := func(err error) error {
		cancel()
		<-ended
		return err
	}
	quiet := time.NewTimer(keepalive)
	defer quiet.Stop()
	for {
		var message *pb.WatchDirResponse
		select {
		case e := <-events:
			message = &pb.WatchDirResponse{Event: &pb.WatchDirResponse_Filesystem{Filesystem: filesystemEvent(e)}}
		case <-quiet.C:
			message = &pb.WatchDirResponse{Event: &pb.WatchDirResponse_Keepalive{Keepalive: &pb.WatchDirResponse_KeepAlive{}}}
		case <-expired:
			return finish(faultrpc.ToConnect(fault.New(fault.Timeout, "watch_timeout", "the watch was open longer than its timeout; open another one")))
		case err := <-ended:
			cancel()
			return faultrpc.ToConnect(err)
		}
		if err := send(message); err != nil {
			return finish(err)
		}
		quiet.Reset(keepalive)
	}
}

// CreateWatcher implements filesystem.Filesystem.
func (f filesystemService) CreateWatcher(ctx context.Context, req *connect.Request[pb.CreateWatcherRequest]) (*connect.Response[pb.CreateWatcherResponse], error) {
	_, path, err := f.resolve(ctx, req.Header(), req.Msg.GetPath())
	if err != nil {
		return answer[pb.CreateWatcherResponse](nil, err)
	}
	id, err := f.server.watchers.Create(filesystem.WatchSpec{
		Path: path, Recursive: req.Msg.GetRecursive(), Entries: req.Msg.GetIncludeEntry(), Network: req.Msg.GetAllowNetworkMounts(),
	})
	return answer(&pb.CreateWatcherResponse{WatcherId: id}, err)
}

// GetWatcherEvents implements filesystem.Filesystem.
func (f filesystemService) GetWatcherEvents(_ context.Context, req *connect.Request[pb.GetWatcherEventsRequest]) (*connect.Response[pb.GetWatcherEventsResponse], error) {
	events, err := f.server.watchers.Fetch(req.Msg.GetWatcherId())
	resp := &pb.GetWatcherEventsResponse{}
	for _, e := range events {
		resp.Events = append(resp.Events, filesystemEvent(e))
	}
	return answer(resp, err)
}

// RemoveWatcher implements filesystem.Filesystem.
func (f filesystemService) RemoveWatcher(_ context.Context, req *connect.Request[pb.RemoveWatcherRequest]) (*connect.Response[pb.RemoveWatcherResponse], error) {
	return answer(&pb.RemoveWatcherResponse{}, f.server.watchers.Remove(req.Msg.GetWatcherId()))
}

var eventTypes = map[filesystem.EventType]pb.EventType{
	filesystem.Created:  pb.EventType_EVENT_TYPE_CREATE,
	filesystem.Renamed:  pb.EventType_EVENT_TYPE_RENAME,
	filesystem.Chmodded: pb.EventType_EVENT_TYPE_CHMOD,
	filesystem.Written:  pb.EventType_EVENT_TYPE_WRITE,
	filesystem.Removed:  pb.EventType_EVENT_TYPE_REMOVE,
}

func filesystemEvent(e filesystem.Event) *pb.FilesystemEvent {
	out := &pb.FilesystemEvent{Name: e.Name, Type: eventTypes[e.Type]}
	if e.Entry != nil {
		out.Entry = entryInfo(*e.Entry)
	}
	return out
}
