package hostclient

import (
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// chunkSize is how much of a file one message carries, and all that an upload
// holds in memory here.
const chunkSize = 256 << 10

// WriteFile implements control.Host. An error of content is returned as it is,
// and the file in the guest stays unchanged.
func (c *Client) WriteFile(ctx context.Context, ref sandbox.Ref, w control.WriteFile, content io.Reader) (int64, error) {
	// Leaving without CloseAndReceive must break the stream: an orderly end
	// would make half a file look whole.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := c.rpc.WriteFile(ctx)
	err := stream.Send(&hostv1.WriteFileRequest{Message: &hostv1.WriteFileRequest_Open{Open: &hostv1.WriteFileOpen{
		Ref: refToProto(ref), Path: w.Path, User: w.User, Mode: w.Mode, Archive: w.Archive, Preserve: w.Preserve,
	}}})
	buf := make([]byte, chunkSize)
	for err == nil {
		n, readErr := fill(content, buf)
		if n > 0 {
			err = stream.Send(&hostv1.WriteFileRequest{Message: &hostv1.WriteFileRequest_Chunk{Chunk: buf[:n]}})
		}
		if errors.Is(readErr, io.EOF) {
			break
		}
		if readErr != nil {
			return 0, readErr
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, faultOf(ctx, err)
	}
	// After io.EOF the host has ended the call early; its reason is here.
	res, err := stream.CloseAndReceive()
	if err != nil {
		return 0, faultOf(ctx, err)
	}
	return res.Msg.GetSize(), nil
}

// fill reads until buf is full or r ends or fails. Unlike io.ReadFull it keeps
// the end of r (io.EOF) apart from an upload that broke (io.ErrUnexpectedEOF).
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

// ReadFile implements control.Host.
func (c *Client) ReadFile(ctx context.Context, ref sandbox.Ref, r control.ReadFile) (*control.File, error) {
	ctx, cancel := context.WithCancel(ctx)
	req := &hostv1.ReadFileRequest{Ref: refToProto(ref), Path: r.Path, User: r.User, Archive: r.Archive}
	if g := r.Range; g != nil {
		req.Ranged, req.Offset, req.Length, req.IfTag = true, g.Offset, uint64(g.Length), g.IfTag
	}
	stream, err := c.rpc.ReadFile(ctx, connect.NewRequest(req))
	if err != nil {
		cancel()
		return nil, faultOf(ctx, err)
	}
	body := &fileBody{ctx: ctx, stream: stream, cancel: cancel}
	if !stream.Receive() {
		err := stream.Err()
		_ = body.Close()
		if err == nil {
			return nil, broken("the file's data is missing")
		}
		return nil, faultOf(ctx, err)
	}
	info := stream.Msg().GetInfo()
	if info == nil {
		_ = body.Close()
		return nil, broken("the file's name and size are missing")
	}
	return fileOf(info, body), nil
}

// fileOf returns the open file that info describes.
func fileOf(info *hostv1.FileInfo, body io.ReadCloser) *control.File {
	f := &control.File{
		Name: info.GetName(), Size: info.GetSize(), Tag: info.GetTag(), ModifiedAt: guestTime(info.GetModifiedUnixNano()), Body: body,
	}
	if info.GetRanged() {
		f.Part = &control.FilePart{Offset: int64(info.GetOffset()), Total: int64(info.GetTotal())}
	}
	return f
}

// fileBody is a download as a reader. It holds one chunk.
type fileBody struct {
	ctx    context.Context // of the call that the stream is
	stream *connect.ServerStreamForClient[hostv1.ReadFileResponse]
	cancel context.CancelFunc
	rest   []byte
}

// Read implements io.Reader. io.EOF comes only after the host has said that
// the file is complete.
func (b *fileBody) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(b.rest) == 0 {
		if !b.stream.Receive() {
			if err := b.stream.Err(); err != nil {
				return 0, faultOf(b.ctx, err)
			}
			return 0, io.EOF
		}
		b.rest = b.stream.Msg().GetChunk()
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// Close implements io.Closer. It ends a download that is not complete.
func (b *fileBody) Close() error {
	b.cancel()
	_ = b.stream.Close() // says only that the download was cut, which was asked for
	return nil
}
