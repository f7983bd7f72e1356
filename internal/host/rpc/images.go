package rpc

import (
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
	"github.com/wrenn-dev/wrenn/internal/host"
)

// importStream is the stream of an import.
type importStream = connect.BidiStream[hostv1.ImportImageRequest, hostv1.ImportImageResponse]

// ImportImage makes a template of a container image and streams how far that is.
func (s *service) ImportImage(ctx context.Context, stream *importStream) error {
	first, err := stream.Receive()
	var src host.ImageSource
	switch source := first.GetOpen().GetSource().(type) {
	case *hostv1.ImportImageOpen_Registry:
		r := source.Registry
		src = host.ImageSource{Reference: r.GetReference(), Username: r.GetUsername(), Password: r.GetPassword()}
		if src.Reference == "" {
			err = errors.Join(err, errors.New("the reference is empty"))
		}
	case *hostv1.ImportImageOpen_Archive:
		src.Content = &archiveReader{stream: stream}
	default:
		err = errors.Join(err, errors.New("no source"))
	}
	if err != nil {
		return faultrpc.ToConnect(fault.Wrap(err, fault.Invalid, "invalid", "the first message must be `open` with a source"))
	}
	made, err := s.manager.ImportImage(ctx, src, func(e host.ImportEvent) {
		progress := &hostv1.ImportProgress{Stage: e.Stage, Detail: e.Detail, Done: e.Done, Total: e.Total}
		// If the caller has gone, ctx ends the import.
		_ = stream.Send(&hostv1.ImportImageResponse{Event: &hostv1.ImportImageResponse_Progress{Progress: progress}})
	})
	if err != nil {
		return s.fail(ctx, "ImportImage", err)
	}
	return stream.Send(&hostv1.ImportImageResponse{Event: &hostv1.ImportImageResponse_Image{Image: &hostv1.ImportedImage{
		Name: made.Name, Digest: made.Digest, Env: made.Env, User: made.User, Workdir: made.Workdir, Entrypoint: made.Entrypoint, Cmd: made.Cmd,
	}}})
}

// archiveReader is the archive that a caller sends. The end of the messages is its end; a
// caller that has gone is an error.
type archiveReader struct {
	stream *importStream
	rest   []byte
	err    error
}

// Read implements io.Reader.
func (r *archiveReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 && r.err == nil {
		m, err := r.stream.Receive()
		if err != nil {
			r.err = io.EOF // alone, as readers compare it; Connect wraps it
			if !errors.Is(err, io.EOF) {
				r.err = fault.Wrap(err, fault.Canceled, "canceled", "the caller stopped sending the archive")
			}
			break
		}
		r.rest = m.GetChunk()
	}
	if len(r.rest) == 0 {
		return 0, r.err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
