package envd

import (
	"context"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/wrenn-dev/wrenn/api/gen/filesystem"
	"github.com/wrenn-dev/wrenn/internal/guest/agent"
	"github.com/wrenn-dev/wrenn/internal/guest/filesystem"
)

// filesystemService serves filesystem.Filesystem.
type filesystemService struct{ server *Server }

// resolve returns the user of a call, and path as that user means it.
func (f filesystemService) resolve(ctx context.Context, h http.Header, path string) (agent.Actor, string, error) {
	actor, err := f.server.actorOf(ctx, h)
	if err != nil {
		return agent.Actor{}, "", err
	}
	path, err = actor.Resolve(path)
	return actor, path, err
}

// Stat implements filesystem.Filesystem.
func (f filesystemService) Stat(ctx context.Context, req *connect.Request[pb.StatRequest]) (*connect.Response[pb.StatResponse], error) {
	_, path, err := f.resolve(ctx, req.Header(), req.Msg.GetPath())
	if err != nil {
		return answer[pb.StatResponse](nil, err)
	}
	e, err := f.server.agent.Files().Stat(path)
	return answer(&pb.StatResponse{Entry: entryInfo(e)}, err)
}

// MakeDir implements filesystem.Filesystem.
func (f filesystemService) MakeDir(ctx context.Context, req *connect.Request[pb.MakeDirRequest]) (*connect.Response[pb.MakeDirResponse], error) {
	actor, path, err := f.resolve(ctx, req.Header(), req.Msg.GetPath())
	if err != nil {
		return answer[pb.MakeDirResponse](nil, err)
	}
	e, err := f.server.agent.Files().MakeDir(path, actor.Owner())
	return answer(&pb.MakeDirResponse{Entry: entryInfo(e)}, err)
}

// Move implements filesystem.Filesystem.
func (f filesystemService) Move(ctx context.Context, req *connect.Request[pb.MoveRequest]) (*connect.Response[pb.MoveResponse], error) {
	actor, source, err := f.resolve(ctx, req.Header(), req.Msg.GetSource())
	if err != nil {
		return answer[pb.MoveResponse](nil, err)
	}
	destination, err := actor.Resolve(req.Msg.GetDestination())
	if err != nil {
		return answer[pb.MoveResponse](nil, err)
	}
	e, err := f.server.agent.Files().Move(source, destination, actor.Owner())
	return answer(&pb.MoveResponse{Entry: entryInfo(e)}, err)
}

// ListDir implements filesystem.Filesystem.
func (f filesystemService) ListDir(ctx context.Context, req *connect.Request[pb.ListDirRequest]) (*connect.Response[pb.ListDirResponse], error) {
	_, path, err := f.resolve(ctx, req.Header(), req.Msg.GetPath())
	if err != nil {
		return answer[pb.ListDirResponse](nil, err)
	}
	entries, err := f.server.agent.Files().List(path, req.Msg.GetDepth())
	resp := &pb.ListDirResponse{Entries: make([]*pb.EntryInfo, 0, len(entries))}
	for _, e := range entries {
		resp.Entries = append(resp.Entries, entryInfo(e))
	}
	return answer(resp, err)
}

// Remove implements filesystem.Filesystem.
func (f filesystemService) Remove(ctx context.Context, req *connect.Request[pb.RemoveRequest]) (*connect.Response[pb.RemoveResponse], error) {
	_, path, err := f.resolve(ctx, req.Header(), req.Msg.GetPath())
	if err == nil {
		err = f.server.agent.Files().Remove(path)
	}
	return answer(&pb.RemoveResponse{}, err)
}

var fileTypes = map[filesystem.Type]pb.FileType{
	filesystem.Unspecified: pb.FileType_FILE_TYPE_UNSPECIFIED,
	filesystem.File:        pb.FileType_FILE_TYPE_FILE,
	filesystem.Dir:         pb.FileType_FILE_TYPE_DIRECTORY,
}

func entryInfo(e filesystem.Entry) *pb.EntryInfo {
	return &pb.EntryInfo{
		Name: e.Name, Type: fileTypes[e.Type], Path: e.Path, Size: e.Size,
		Mode: e.Mode, Permissions: e.Permissions, Owner: e.Owner, Group: e.Group,
		ModifiedTime: timestamppb.New(e.ModifiedAt), SymlinkTarget: e.Target, Metadata: e.Metadata,
	}
}
