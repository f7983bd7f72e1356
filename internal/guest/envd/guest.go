package envd

import (
	"context"

	"connectrpc.com/connect"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
)

// guestService is wrenn.guest.v1.Guest over Connect.
type guestService struct{ server *Server }

// Configure implements wrenn.guest.v1.Guest.
func (g guestService) Configure(ctx context.Context, req *connect.Request[guestv1.ConfigureRequest]) (*connect.Response[guestv1.ConfigureResponse], error) {
	return answer(g.server.agent.Configure(ctx, req.Msg, req.Header().Get(headerToken)))
}

// Quiesce implements wrenn.guest.v1.Guest.
func (g guestService) Quiesce(ctx context.Context, req *connect.Request[guestv1.QuiesceRequest]) (*connect.Response[guestv1.QuiesceResponse], error) {
	return answer(g.server.agent.Quiesce(ctx, req.Msg))
}

// Hold implements wrenn.guest.v1.Guest.
func (g guestService) Hold(ctx context.Context, _ *connect.Request[guestv1.HoldRequest]) (*connect.Response[guestv1.HoldResponse], error) {
	frozen, err := g.server.agent.Hold(ctx)
	return answer(&guestv1.HoldResponse{Frozen: uint32(frozen)}, err)
}

// Release implements wrenn.guest.v1.Guest.
func (g guestService) Release(ctx context.Context, req *connect.Request[guestv1.ReleaseRequest]) (*connect.Response[guestv1.ReleaseResponse], error) {
	return answer(g.server.agent.Release(ctx, req.Msg, req.Header().Get(headerToken)))
}
