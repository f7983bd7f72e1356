package hostclient

import (
	"context"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// CreateSnapshot implements control.Host.
func (c *Client) CreateSnapshot(ctx context.Context, ref sandbox.Ref, id sandbox.SnapshotID, kind control.SnapshotKind) (control.ObservedSnapshot, error) {
	return c.createSnapshot(ctx, &hostv1.CreateSnapshotRequest{
		Ref: refToProto(ref), SnapshotId: string(id), Ephemeral: kind == control.KindFork,
	})
}

// ForceSnapshot implements control.Host.
func (c *Client) ForceSnapshot(ctx context.Context, ref sandbox.Ref, id sandbox.SnapshotID, kind control.SnapshotKind) (control.ObservedSnapshot, error) {
	return c.createSnapshot(ctx, &hostv1.CreateSnapshotRequest{
		Ref: refToProto(ref), SnapshotId: string(id), Ephemeral: kind == control.KindFork, Force: true,
	})
}

// SnapshotDisk implements control.Host.
func (c *Client) SnapshotDisk(ctx context.Context, ref sandbox.Ref, id sandbox.SnapshotID, kind control.SnapshotKind) (control.ObservedSnapshot, error) {
	if err := c.needsDiskPauses(ctx); err != nil {
		return control.ObservedSnapshot{}, err
	}
	return c.createSnapshot(ctx, &hostv1.CreateSnapshotRequest{
		Ref: refToProto(ref), SnapshotId: string(id), Ephemeral: kind == control.KindFork, DiskOnly: true,
	})
}

func (c *Client) createSnapshot(ctx context.Context, req *hostv1.CreateSnapshotRequest) (control.ObservedSnapshot, error) {
	res, err := c.rpc.CreateSnapshot(ctx, connect.NewRequest(req))
	if err != nil {
		return control.ObservedSnapshot{}, faultOf(ctx, err)
	}
	return snapshotFromProto(res.Msg.GetSnapshot()), nil
}

// DeleteSnapshot implements control.Host.
func (c *Client) DeleteSnapshot(ctx context.Context, id sandbox.SnapshotID) error {
	_, err := c.rpc.DeleteSnapshot(ctx, connect.NewRequest(&hostv1.DeleteSnapshotRequest{SnapshotId: string(id)}))
	return faultOf(ctx, err)
}

// Snapshots implements control.Host.
func (c *Client) Snapshots(ctx context.Context) ([]control.ObservedSnapshot, error) {
	res, err := c.rpc.ListSnapshots(ctx, connect.NewRequest(&hostv1.ListSnapshotsRequest{}))
	if err != nil {
		return nil, faultOf(ctx, err)
	}
	observed := make([]control.ObservedSnapshot, 0, len(res.Msg.GetSnapshots()))
	for _, s := range res.Msg.GetSnapshots() {
		observed = append(observed, snapshotFromProto(s))
	}
	return observed, nil
}

// CollectGarbage implements control.Host. HostID is left to the caller.
func (c *Client) CollectGarbage(ctx context.Context, mode control.GarbageMode) ([]control.Garbage, error) {
	res, err := c.rpc.CollectGarbage(ctx, connect.NewRequest(&hostv1.CollectGarbageRequest{
		DryRun: mode != control.GarbageRemove,
	}))
	if err != nil {
		return nil, faultOf(ctx, err)
	}
	items := make([]control.Garbage, 0, len(res.Msg.GetItems()))
	for _, g := range res.Msg.GetItems() {
		items = append(items, garbageFromProto(g))
	}
	return items, nil
}
