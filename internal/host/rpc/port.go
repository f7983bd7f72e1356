package rpc

import (
	"context"
	"math"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/tunnel"
)

// openTunnel connects the caller with a port of a guest. A refusal has the form of an
// error of Connect.
func (s *service) openTunnel(w http.ResponseWriter, r *http.Request) {
	port, err := s.dialPort(r)
	if err != nil {
		_ = connect.NewErrorWriter().Write(w, r, s.fail(r.Context(), "tunnel", err))
		return
	}
	peer, err := tunnel.Accept(w)
	if err != nil {
		port.Close()
		s.log.WarnContext(r.Context(), "a tunnel could not be opened", "error", err)
		return
	}
	if err := port.Carry(peer); err != nil {
		s.log.DebugContext(context.WithoutCancel(r.Context()), "a tunnel was aborted", "error", err)
	}
}

func (s *service) dialPort(r *http.Request) (*host.Port, error) {
	message, ok := tunnel.ReadRequest(r)
	req := &hostv1.TunnelRequest{}
	if !ok || proto.Unmarshal(message, req) != nil || req.GetPort() > math.MaxUint16 {
		return nil, fault.New(fault.Invalid, "invalid", "this is no request for a tunnel")
	}
	ref, err := toRef(req.GetRef())
	if err != nil {
		return nil, err
	}
	return s.manager.DialPort(r.Context(), ref, uint16(req.GetPort()), r.Header.Get(tunnel.HeaderPassive) != "")
}
