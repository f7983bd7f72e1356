package hostclient

import (
	"context"
	"errors"
	"io"
	"sync"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// importCall is the call of an import.
type importCall = connect.BidiStreamForClient[hostv1.ImportImageRequest, hostv1.ImportImageResponse]

// ImportImage implements control.Host. It returns only once content is not read any
// more, so that a Read that waits delays it.
func (c *Client) ImportImage(ctx context.Context, src control.ImageSource, content io.Reader, progress func(control.ImageProgress)) (control.HostImage, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stream := c.rpc.ImportImage(ctx)
	// HTTP/2 does not look at ctx while it waits for the next message to send.
	defer context.AfterFunc(ctx, func() { _ = stream.CloseRequest() })()
	var feeding sync.WaitGroup
	defer stream.CloseResponse()
	defer feeding.Wait()
	defer cancel(nil)
	if err := stream.Send(importToProto(src)); err != nil && !errors.Is(err, io.EOF) { // EOF: Receive has the reason
		return control.HostImage{}, faultOf(ctx, err)
	}
	feeding.Go(func() {
		if err := fault.Caught(func() error { return feedArchive(stream, src, content) }); err != nil {
			cancel(&inputError{err})
		}
	})
	for {
		m, err := stream.Receive()
		switch {
		case errors.Is(err, io.EOF):
			return control.HostImage{}, broken("the imported image is missing")
		case err != nil:
			var ours *inputError
			if errors.As(context.Cause(ctx), &ours) {
				return control.HostImage{}, ours.error
			}
			return control.HostImage{}, faultOf(ctx, err)
		}
		switch event := m.GetEvent().(type) {
		case *hostv1.ImportImageResponse_Progress:
			p := event.Progress
			progress(control.ImageProgress{Stage: p.GetStage(), Detail: p.GetDetail(), Done: p.GetDone(), Total: p.GetTotal()})
		case *hostv1.ImportImageResponse_Image:
			return hostImageFromProto(event.Image)
		}
	}
}

// feedArchive sends content, if src is an archive, and ends the messages. Its error is
// that of content; the host's reason for a refused message is Receive's.
func feedArchive(stream *importCall, src control.ImageSource, content io.Reader) error {
	if src.Reference != "" {
		_ = stream.CloseRequest()
		return nil
	}
	buf := make([]byte, chunkSize)
	for {
		n, err := fill(content, buf)
		if n > 0 {
			chunk := &hostv1.ImportImageRequest{Message: &hostv1.ImportImageRequest_Chunk{Chunk: buf[:n]}}
			if stream.Send(chunk) != nil {
				return nil
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			_ = stream.CloseRequest()
			return nil
		case err != nil:
			return err
		}
	}
}

func importToProto(src control.ImageSource) *hostv1.ImportImageRequest {
	open := &hostv1.ImportImageOpen{Source: &hostv1.ImportImageOpen_Archive{Archive: &hostv1.ImageArchive{}}}
	if src.Reference != "" {
		open.Source = &hostv1.ImportImageOpen_Registry{Registry: &hostv1.RegistryImage{
			Reference: src.Reference, Username: src.Username, Password: src.Password,
		}}
	}
	return &hostv1.ImportImageRequest{Message: &hostv1.ImportImageRequest_Open{Open: open}}
}

func hostImageFromProto(i *hostv1.ImportedImage) (control.HostImage, error) {
	if i.GetName() == "" || i.GetDigest() == "" {
		return control.HostImage{}, broken("the imported image has no name")
	}
	return control.HostImage{
		Name: i.GetName(), Digest: i.GetDigest(), Env: i.GetEnv(), User: i.GetUser(), Workdir: i.GetWorkdir(),
		Entrypoint: i.GetEntrypoint(), Cmd: i.GetCmd(),
	}, nil
}
