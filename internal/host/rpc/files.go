package rpc

import (
	"context"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
)

// CallFile does one operation on the names of a guest's file system.
func (s *service) CallFile(ctx context.Context, req *connect.Request[hostv1.CallFileRequest]) (*connect.Response[hostv1.CallFileResponse], error) {
	ref, err := toRef(req.Msg.GetRef())
	if err != nil {
		return nil, faultrpc.ToConnect(err)
	}
	answer, err := s.manager.CallFile(ctx, ref, req.Msg.GetCall())
	if err != nil {
		return nil, s.fail(ctx, "CallFile", err)
	}
	return connect.NewResponse(&hostv1.CallFileResponse{Answer: answer}), nil
}

// WatchFiles streams the changes in a directory of a guest.
func (s *service) WatchFiles(ctx context.Context, req *connect.Request[hostv1.WatchFilesRequest], stream *connect.ServerStream[hostv1.WatchFilesResponse]) error {
	ref, err := toRef(req.Msg.GetRef())
	if err != nil {
		return faultrpc.ToConnect(err)
	}
	err = s.manager.WatchFiles(ctx, ref, req.Msg.GetCall(), func(event *guestv1.WatchFilesEvent) error {
		return stream.Send(&hostv1.WatchFilesResponse{Event: event})
	})
	return s.fail(ctx, "WatchFiles", err)
}
