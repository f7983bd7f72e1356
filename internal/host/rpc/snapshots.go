package rpc

import (
	"context"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
	"github.com/wrenn-dev/wrenn/internal/hostwire"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// SetTimeouts changes a sandbox's clocks.
func (s *service) SetTimeouts(ctx context.Context, req *connect.Request[hostv1.SetTimeoutsRequest]) (*connect.Response[hostv1.SetTimeoutsResponse], error) {
	ref, err := toRef(req.Msg.GetRef())
	if err != nil {
		return nil, faultrpc.ToConnect(err)
	}
	sb, err := s.manager.SetTimeouts(ctx, ref, toTimeouts(req.Msg))
	if err != nil {
		return nil, s.fail(ctx, "SetTimeouts", err)
	}
	return connect.NewResponse(&hostv1.SetTimeoutsResponse{Sandbox: fromSandbox(sb)}), nil
}

// SetEgress replaces a sandbox's limits of outgoing traffic.
func (s *service) SetEgress(ctx context.Context, req *connect.Request[hostv1.SetEgressRequest]) (*connect.Response[hostv1.SetEgressResponse], error) {
	ref, err := toRef(req.Msg.GetRef())
	if err != nil {
		return nil, faultrpc.ToConnect(err)
	}
	sb, err := s.manager.SetEgress(ctx, ref, hostwire.EgressFromProto(req.Msg.GetEgressDeny(), req.Msg.GetEgressAllow()))
	if err != nil {
		return nil, s.fail(ctx, "SetEgress", err)
	}
	return connect.NewResponse(&hostv1.SetEgressResponse{Sandbox: fromSandbox(sb)}), nil
}

// CreateSnapshot keeps a sandbox as it is at this moment.
func (s *service) CreateSnapshot(ctx context.Context, req *connect.Request[hostv1.CreateSnapshotRequest]) (*connect.Response[hostv1.CreateSnapshotResponse], error) {
	ref, err := toRef(req.Msg.GetRef())
	if err != nil {
		return nil, faultrpc.ToConnect(err)
	}
	id, err := sandbox.ParseSnapshotID(req.Msg.GetSnapshotId())
	if err != nil {
		return nil, faultrpc.ToConnect(err)
	}
	take := s.manager.Snapshot
	switch {
	case req.Msg.GetDiskOnly():
		take = s.manager.SnapshotDisk
	case req.Msg.GetForce():
		take = s.manager.ForceSnapshot
	}
	snap, err := take(ctx, ref, id, req.Msg.GetEphemeral())
	if err != nil {
		return nil, s.fail(ctx, "CreateSnapshot", err)
	}
	return connect.NewResponse(&hostv1.CreateSnapshotResponse{Snapshot: fromSnapshot(snap)}), nil
}

// DeleteSnapshot makes a snapshot unusable.
func (s *service) DeleteSnapshot(ctx context.Context, req *connect.Request[hostv1.DeleteSnapshotRequest]) (*connect.Response[hostv1.DeleteSnapshotResponse], error) {
	id, err := sandbox.ParseSnapshotID(req.Msg.GetSnapshotId())
	if err != nil {
		return nil, faultrpc.ToConnect(err)
	}
	if err := s.manager.DeleteSnapshot(ctx, id); err != nil {
		return nil, s.fail(ctx, "DeleteSnapshot", err)
	}
	return connect.NewResponse(&hostv1.DeleteSnapshotResponse{}), nil
}

// ListSnapshots returns every snapshot of the host.
func (s *service) ListSnapshots(ctx context.Context, _ *connect.Request[hostv1.ListSnapshotsRequest]) (*connect.Response[hostv1.ListSnapshotsResponse], error) {
	all, err := s.manager.Snapshots()
	if err != nil {
		return nil, s.fail(ctx, "ListSnapshots", err)
	}
	res := &hostv1.ListSnapshotsResponse{}
	for _, snap := range all {
		res.Snapshots = append(res.Snapshots, fromSnapshot(snap))
	}
	return connect.NewResponse(res), nil
}

// CollectGarbage removes unreferenced snapshots and builds, or only lists them.
func (s *service) CollectGarbage(ctx context.Context, req *connect.Request[hostv1.CollectGarbageRequest]) (*connect.Response[hostv1.CollectGarbageResponse], error) {
	items, err := s.manager.CollectGarbage(ctx, req.Msg.GetDryRun())
	if err != nil {
		return nil, s.fail(ctx, "CollectGarbage", err)
	}
	res := &hostv1.CollectGarbageResponse{}
	for _, g := range items {
		res.Items = append(res.Items, &hostv1.CollectGarbageResponse_Item{Kind: g.Kind, Id: g.ID, Bytes: g.Bytes, Reason: g.Reason})
	}
	return connect.NewResponse(res), nil
}
