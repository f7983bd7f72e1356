package hostclient

import (
	"context"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Drain makes the agent take no new sandboxes and pause every running one to
// disk. done is called for each as it is done, with "" or a sentence on why
// it continues to run. Drain returns when none is left to do; its error says
// that some failed or that the agent cannot be asked.
func (c *Client) Drain(ctx context.Context, done func(id sandbox.ID, problem string)) error {
	stream, err := c.rpc.Drain(ctx, connect.NewRequest(&hostv1.DrainRequest{}))
	if err != nil {
		return faultOf(ctx, err)
	}
	defer stream.Close()
	for stream.Receive() {
		msg := stream.Msg()
		done(sandbox.ID(msg.GetRef().GetId()), msg.GetError())
	}
	return faultOf(ctx, stream.Err())
}
