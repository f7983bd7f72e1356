package hostclient

import (
	"context"
	"errors"
	"net"

	"connectrpc.com/connect"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
)

// faultOf turns the error of a call under ctx into a fault and marks it when the
// call's effect on the host is unknown. nil stays nil.
//
// A call that could not even connect had no effect, and a call that the agent
// answered had the effect of the answer. An answer about time or cancellation
// concerns the call, not the work: a boot may continue after the call that began it.
func faultOf(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return fault.Wrap(err, fault.HostFailed, "host_unreachable", "the host agent cannot be reached")
	}
	f := faultrpc.FromConnect(err)
	late := fault.Is(f, fault.Timeout) || fault.Is(f, fault.Canceled)
	switch {
	case !connect.IsWireError(err) && late && ctx.Err() == nil:
		// The caller still waits and has time, so the connection broke. (Connect
		// calls a broken pipe "canceled".)
		return control.MarkUnknown(fault.Wrap(err, fault.HostFailed, faultrpc.ReasonUnreachable, "the host agent cannot be reached"))
	case faultrpc.Unknown(f), late:
		return control.MarkUnknown(f)
	}
	return f
}

// broken is a host agent that does not keep to the protocol.
func broken(what string) error {
	return fault.New(fault.HostFailed, "host_protocol", "the host agent's answer is incomplete: %s", what)
}
