package hostclient_test

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestNewCommandsOnTheWire compares the messages that each command sends and returns.
func TestNewCommandsOnTheWire(t *testing.T) {
	a := &agent{}
	c, _ := connectTo(t, a)
	ref, wire := sandbox.Ref{ID: "s", Generation: 3}, &hostv1.Ref{Id: "s", Generation: 3}
	idle := time.Minute
	observed, err := c.SetTimeouts(t.Context(), ref, control.TimeoutChange{Idle: &idle})
	if err != nil || observed.Ref != ref {
		t.Errorf("%+v, %v", observed, err)
	}
	for _, kind := range []control.SnapshotKind{control.KindNamed, control.KindFork} {
		if snap, err := c.CreateSnapshot(t.Context(), ref, "snap", kind); err != nil || snap.ID != "snap" {
			t.Errorf("%+v, %v", snap, err)
		}
	}
	if err := c.DeleteSnapshot(t.Context(), "snap"); err != nil {
		t.Error(err)
	}
	if list, err := c.Snapshots(t.Context()); err != nil || len(list) != 2 || list[1].ID != "b" {
		t.Errorf("%+v, %v", list, err)
	}
	for _, mode := range []control.GarbageMode{control.GarbageList, control.GarbageRemove} {
		if items, err := c.CollectGarbage(t.Context(), mode); err != nil || len(items) != 1 || items[0].Bytes != 3 {
			t.Errorf("%+v, %v", items, err)
		}
	}
	want := []proto.Message{
		&hostv1.SetTimeoutsRequest{Ref: wire, TimeoutSec: proto.Uint32(60)},
		&hostv1.CreateSnapshotRequest{Ref: wire, SnapshotId: "snap"},
		&hostv1.CreateSnapshotRequest{Ref: wire, SnapshotId: "snap", Ephemeral: true},
		&hostv1.DeleteSnapshotRequest{SnapshotId: "snap"},
		&hostv1.CollectGarbageRequest{DryRun: true},
		&hostv1.CollectGarbageRequest{},
	}
	if len(a.asked) != len(want) {
		t.Fatalf("%d requests, want %d", len(a.asked), len(want))
	}
	for i, w := range want {
		if got := a.asked[i].(proto.Message); !proto.Equal(got, w) {
			t.Errorf("%d: sent %v, want %v", i, got, w)
		}
	}
}

// TestCreateFromSnapshot: the id goes along, and a host without room stays one
// without room.
func TestCreateFromSnapshot(t *testing.T) {
	a := &agent{}
	c, _ := connectTo(t, a)
	a.create = func(_ context.Context, r *hostv1.CreateSandboxRequest) (*hostv1.CreateSandboxResponse, error) {
		if r.GetSnapshotId() != "snap" {
			t.Errorf("sent %v", r)
		}
		return nil, faultrpc.ToConnect(fault.New(fault.NoCapacity, "disk_reserve", "the disk is almost full"))
	}
	_, err := c.Create(t.Context(), sandbox.Ref{ID: "s", Generation: 1}, sandbox.Spec{}, "snap")
	if !fault.Is(err, fault.NoCapacity) || fault.ReasonOf(err) != "disk_reserve" || control.OutcomeUnknown(err) {
		t.Errorf("%v", err)
	}
	a.create = func(context.Context, *hostv1.CreateSandboxRequest) (*hostv1.CreateSandboxResponse, error) {
		return nil, connect.NewError(connect.CodeUnimplemented, nil)
	}
	if _, err := c.Create(t.Context(), sandbox.Ref{ID: "s", Generation: 1}, sandbox.Spec{}, "snap"); !fault.Is(err, fault.Unsupported) {
		t.Errorf("%v, want Unsupported", err)
	}
}
