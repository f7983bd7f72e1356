package rpc

import (
	"context"
	"log/slog"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/api/gen/host/v1/hostv1connect"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/hostwire"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// service implements host.v1 on a Manager.
type service struct {
	manager *host.Manager
	log     *slog.Logger
}

var _ hostv1connect.HostServiceHandler = (*service)(nil)

// fail logs the cause, which the caller does not see, and returns the public error. A
// port of a sandbox that refuses is no fault of the host, and strangers can ask for it.
func (s *service) fail(ctx context.Context, call string, err error) error {
	if f := fault.As(err); f.Kind == fault.Internal || f.Kind == fault.HostFailed && f.Reason != guestclient.ReasonPortRefused {
		s.log.ErrorContext(ctx, "call failed", "call", call, "error", err)
	}
	return faultrpc.ToConnect(err)
}

// CreateSandbox boots a sandbox.
func (s *service) CreateSandbox(ctx context.Context, req *connect.Request[hostv1.CreateSandboxRequest]) (*connect.Response[hostv1.CreateSandboxResponse], error) {
	ref, err := toRef(req.Msg.GetRef())
	if err != nil {
		return nil, faultrpc.ToConnect(err)
	}
	sb, err := s.create(ctx, ref, req.Msg)
	if err != nil {
		return nil, s.fail(ctx, "CreateSandbox", err)
	}
	return connect.NewResponse(&hostv1.CreateSandboxResponse{Sandbox: fromSandbox(sb)}), nil
}

func (s *service) create(ctx context.Context, ref sandbox.Ref, msg *hostv1.CreateSandboxRequest) (host.Sandbox, error) {
	spec := hostwire.SpecFromProto(msg.GetSpec())
	if msg.GetSnapshotId() == "" {
		return s.manager.Create(ctx, ref, spec)
	}
	id, err := sandbox.ParseSnapshotID(msg.GetSnapshotId())
	if err != nil {
		return host.Sandbox{}, err
	}
	return s.manager.CreateFrom(ctx, ref, spec, id)
}

// DestroySandbox ends a sandbox.
func (s *service) DestroySandbox(ctx context.Context, req *connect.Request[hostv1.DestroySandboxRequest]) (*connect.Response[hostv1.DestroySandboxResponse], error) {
	ref, err := toRef(req.Msg.GetRef())
	if err != nil {
		return nil, faultrpc.ToConnect(err)
	}
	if err := s.manager.Destroy(ctx, ref, sandbox.StopReason(req.Msg.GetReason())); err != nil {
		return nil, s.fail(ctx, "DestroySandbox", err)
	}
	return connect.NewResponse(&hostv1.DestroySandboxResponse{}), nil
}

// PauseSandbox writes a sandbox to disk.
func (s *service) PauseSandbox(ctx context.Context, req *connect.Request[hostv1.PauseSandboxRequest]) (*connect.Response[hostv1.PauseSandboxResponse], error) {
	ref, err := toRef(req.Msg.GetRef())
	if err != nil {
		return nil, faultrpc.ToConnect(err)
	}
	pause := s.manager.Pause
	switch {
	case req.Msg.GetDiskOnly():
		pause = s.manager.PauseDisk
	case req.Msg.GetForce():
		pause = s.manager.ForcePause
	}
	sb, err := pause(ctx, ref)
	if err != nil {
		return nil, s.fail(ctx, "PauseSandbox", err)
	}
	return connect.NewResponse(&hostv1.PauseSandboxResponse{Sandbox: fromSandbox(sb)}), nil
}

// ResumeSandbox brings a sandbox back.
func (s *service) ResumeSandbox(ctx context.Context, req *connect.Request[hostv1.ResumeSandboxRequest]) (*connect.Response[hostv1.ResumeSandboxResponse], error) {
	ref, err := toRef(req.Msg.GetRef())
	if err != nil {
		return nil, faultrpc.ToConnect(err)
	}
	resume := s.manager.Resume
	switch {
	case req.Msg.GetReboot():
		resume = s.manager.Reboot
	case req.Msg.GetForUse():
		resume = s.manager.ResumeForUse
	}
	sb, err := resume(ctx, ref)
	if err != nil {
		return nil, s.fail(ctx, "ResumeSandbox", err)
	}
	return connect.NewResponse(&hostv1.ResumeSandboxResponse{Sandbox: fromSandbox(sb)}), nil
}

// GetSandbox returns one sandbox of the host.
func (s *service) GetSandbox(ctx context.Context, req *connect.Request[hostv1.GetSandboxRequest]) (*connect.Response[hostv1.GetSandboxResponse], error) {
	sb, err := s.manager.Get(sandbox.ID(req.Msg.GetId()))
	if err != nil {
		return nil, s.fail(ctx, "GetSandbox", err)
	}
	return connect.NewResponse(&hostv1.GetSandboxResponse{Sandbox: fromSandbox(sb)}), nil
}

// ListSandboxes returns every sandbox of the host.
func (s *service) ListSandboxes(context.Context, *connect.Request[hostv1.ListSandboxesRequest]) (*connect.Response[hostv1.ListSandboxesResponse], error) {
	res := &hostv1.ListSandboxesResponse{}
	for _, sb := range s.manager.List() {
		res.Sandboxes = append(res.Sandboxes, fromSandbox(sb))
	}
	return connect.NewResponse(res), nil
}

// WatchEvents streams changes until the caller goes away or falls behind.
func (s *service) WatchEvents(ctx context.Context, _ *connect.Request[hostv1.WatchEventsRequest], stream *connect.ServerStream[hostv1.WatchEventsResponse]) error {
	changes, cancel := s.manager.Subscribe()
	defer cancel()
	hello := &hostv1.WatchEventsResponse{Event: &hostv1.WatchEventsResponse_Hello_{Hello: &hostv1.WatchEventsResponse_Hello{}}}
	if err := stream.Send(hello); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.manager.Done():
			return faultrpc.ToConnect(fault.New(fault.HostFailed, "host_stopping", "the host agent is stopping"))
		case sb, ok := <-changes:
			if !ok {
				return faultrpc.ToConnect(fault.New(fault.HostFailed, "events_lost", "the watcher fell behind; list and watch again"))
			}
			event := &hostv1.WatchEventsResponse{Event: &hostv1.WatchEventsResponse_Sandbox{Sandbox: fromSandbox(sb)}}
			if err := stream.Send(event); err != nil {
				return err
			}
		}
	}
}

// GetHost describes the host.
func (s *service) GetHost(ctx context.Context, _ *connect.Request[hostv1.GetHostRequest]) (*connect.Response[hostv1.GetHostResponse], error) {
	info, err := s.manager.Info(ctx)
	if err != nil {
		return nil, s.fail(ctx, "GetHost", err)
	}
	return connect.NewResponse(fromInfo(info)), nil
}

// Drain pauses every running sandbox.
func (s *service) Drain(ctx context.Context, _ *connect.Request[hostv1.DrainRequest], stream *connect.ServerStream[hostv1.DrainResponse]) error {
	err := s.manager.Drain(ctx, func(ref sandbox.Ref, err error) {
		msg := &hostv1.DrainResponse{Ref: fromRef(ref)}
		if err != nil {
			msg.Error = fault.As(err).Public
		}
		_ = stream.Send(msg) // a caller who has gone does not stop the drain of the next one
	})
	if err != nil {
		return s.fail(ctx, "Drain", err)
	}
	return nil
}
