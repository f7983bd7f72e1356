package hostclient

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
	"github.com/wrenn-dev/wrenn/internal/tunnel"
)

// DialPort implements control.Host.
func (c *Client) DialPort(ctx context.Context, ref sandbox.Ref, port uint16, options ...control.DialOption) (control.PortConn, error) {
	message, err := proto.Marshal(&hostv1.TunnelRequest{Ref: refToProto(ref), Port: uint32(port)})
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "internal", "a request for a tunnel cannot be encoded")
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, tunnelFault(ctx, err)
	}
	header := make(http.Header)
	if c.token != "" {
		header.Set("Authorization", "Bearer "+c.token)
	}
	if slices.Contains(options, control.Passive) {
		header.Set(tunnel.HeaderPassive, "1")
	}
	open, err := tunnel.Dial(ctx, conn, header, message)
	if err != nil {
		return nil, tunnelFault(ctx, err)
	}
	return open, nil
}

// tunnelFault turns the error of a request for a tunnel into a fault. Its outcome is
// never unknown: a tunnel that the caller does not get is closed.
func tunnelFault(ctx context.Context, err error) error {
	var refusal *tunnel.Refusal
	switch {
	case errors.As(err, &refusal):
		return faultrpc.FromConnect(wireError(refusal))
	case ctx.Err() != nil:
		return fault.As(ctx.Err())
	default:
		return fault.Wrap(err, fault.HostFailed, "host_unreachable", "the host agent cannot be reached")
	}
}

// wireError returns the error of Connect in a refusal. An agent of an earlier version
// does not know the path, and answers without one.
func wireError(r *tunnel.Refusal) error {
	var body struct {
		Code    connect.Code `json:"code"`
		Message string       `json:"message"`
	}
	if json.Unmarshal(r.Body, &body) != nil || body.Code == 0 {
		return fault.New(fault.Unsupported, "tunnels_unsupported",
			"the host agent cannot reach ports of sandboxes; update wrenn on that host")
	}
	err := connect.NewWireError(body.Code, errors.New(body.Message))
	for name, values := range r.Header {
		err.Meta()[name] = values
	}
	return err
}
