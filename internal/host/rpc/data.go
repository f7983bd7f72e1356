package rpc

import (
	"context"
	"errors"
	"io"
	"time"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/host"
)

// chunkBytes is the size of one piece of a file on the wire.
const chunkBytes = 256 << 10

// Exec runs a command and streams its events.
func (s *service) Exec(ctx context.Context, req *connect.Request[hostv1.ExecRequest], stream *connect.ServerStream[hostv1.ExecResponse]) error {
	ref, err := toRef(req.Msg.GetRef())
	if err != nil {
		return faultrpc.ToConnect(err)
	}
	e := toExec(req.Msg)
	err = s.manager.Exec(ctx, ref, e, func(event *process.ProcessEvent) error {
		return stream.Send(&hostv1.ExecResponse{Event: event})
	})
	if err != nil {
		return s.fail(ctx, "Exec", err)
	}
	return nil
}

func toExec(m *hostv1.ExecRequest) host.Exec {
	return host.Exec{
		Start: m.GetStart(), User: m.GetUser(),
		Timeout: time.Duration(m.GetTimeoutMs()) * time.Millisecond, Stdin: m.GetStdin(),
	}
}

// WriteFile streams one file into a guest.
func (s *service) WriteFile(ctx context.Context, stream *connect.ClientStream[hostv1.WriteFileRequest]) (*connect.Response[hostv1.WriteFileResponse], error) {
	if !stream.Receive() {
		return nil, faultrpc.ToConnect(errors.Join(fault.New(fault.Invalid, "invalid", "the first message must be `open`"), stream.Err()))
	}
	open := stream.Msg().GetOpen()
	ref, err := toRef(open.GetRef())
	if err != nil {
		return nil, faultrpc.ToConnect(err)
	}
	w := guestclient.WriteFile{Path: open.GetPath(), User: open.GetUser(), Mode: open.Mode, Archive: open.GetArchive(), Preserve: open.GetPreserve()}
	n, err := s.manager.WriteFile(ctx, ref, w, &chunkReader{stream: stream})
	if err != nil {
		return nil, s.fail(ctx, "WriteFile", err)
	}
	return connect.NewResponse(&hostv1.WriteFileResponse{Size: n}), nil
}

// chunkReader is the content of an upload. A stream that breaks off is an
// error, never an early end: the guest must not keep half a file.
type chunkReader struct {
	stream *connect.ClientStream[hostv1.WriteFileRequest]
	rest   []byte
}

func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if !r.stream.Receive() {
			if err := r.stream.Err(); err != nil {
				return 0, faultrpc.FromConnect(err)
			}
			return 0, io.EOF
		}
		r.rest = r.stream.Msg().GetChunk()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// ReadFile streams one file out of a guest.
func (s *service) ReadFile(ctx context.Context, req *connect.Request[hostv1.ReadFileRequest], stream *connect.ServerStream[hostv1.ReadFileResponse]) error {
	ref, err := toRef(req.Msg.GetRef())
	if err != nil {
		return faultrpc.ToConnect(err)
	}
	f, err := s.manager.ReadFile(ctx, ref, toReadFile(req.Msg))
	if err != nil {
		return s.fail(ctx, "ReadFile", err)
	}
	defer f.Close()
	info := &hostv1.ReadFileResponse{Message: &hostv1.ReadFileResponse_Info{Info: fileInfo(f.File)}}
	if err := stream.Send(info); err != nil {
		return err
	}
	if err := sendChunks(f, stream); err != nil {
		return s.fail(ctx, "ReadFile", err)
	}
	return nil
}

func toReadFile(m *hostv1.ReadFileRequest) guestclient.ReadFile {
	r := guestclient.ReadFile{Path: m.GetPath(), User: m.GetUser(), Archive: m.GetArchive()}
	if m.GetRanged() {
		r.Range = &guestclient.FileRange{Offset: m.GetOffset(), Length: m.GetLength(), IfTag: m.GetIfTag()}
	}
	return r
}

func fileInfo(f guestclient.File) *hostv1.FileInfo {
	info := &hostv1.FileInfo{Name: f.Name, Size: f.Size, Tag: f.Tag, ModifiedUnixNano: f.ModifiedAt.UnixNano()}
	if f.Part != nil {
		info.Ranged, info.Offset, info.Total = true, uint64(f.Part.Offset), uint64(f.Part.Total)
	}
	return info
}

func sendChunks(f io.Reader, stream *connect.ServerStream[hostv1.ReadFileResponse]) error {
	buf := make([]byte, chunkBytes)
	for {
		n, err := io.ReadFull(f, buf)
		if n > 0 {
			msg := &hostv1.ReadFileResponse{Message: &hostv1.ReadFileResponse_Chunk{Chunk: buf[:n]}}
			if err := stream.Send(msg); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}
