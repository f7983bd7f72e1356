package hostclient_test

import (
	"context"
	"errors"
	"testing"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/hostclient"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// oneSandbox is an agent that answers GetSandbox.
type oneSandbox struct {
	agent
	get func(id string) (*hostv1.Sandbox, error)
}

func (a *oneSandbox) GetSandbox(_ context.Context, r *connect.Request[hostv1.GetSandboxRequest]) (*connect.Response[hostv1.GetSandboxResponse], error) {
	sb, err := a.get(r.Msg.GetId())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&hostv1.GetSandboxResponse{Sandbox: sb}), nil
}

func (a *oneSandbox) ListSandboxes(context.Context, *connect.Request[hostv1.ListSandboxesRequest]) (*connect.Response[hostv1.ListSandboxesResponse], error) {
	return connect.NewResponse(&hostv1.ListSandboxesResponse{Sandboxes: []*hostv1.Sandbox{
		{Ref: &hostv1.Ref{Id: "other"}}, {Ref: &hostv1.Ref{Id: "abc", Generation: 7}},
	}}), nil
}

func TestSandbox(t *testing.T) {
	t.Parallel()
	found := func(id string) (*hostv1.Sandbox, error) {
		return &hostv1.Sandbox{Ref: &hostv1.Ref{Id: id, Generation: 2}, State: hostv1.SandboxState_SANDBOX_STATE_PAUSED}, nil
	}
	for name, c := range map[string]struct {
		get        func(string) (*hostv1.Sandbox, error)
		generation uint64     // zero: no observed state
		kind       fault.Kind // Internal: no error
	}{
		"known":   {get: found, generation: 2},
		"unknown": {get: failing(faultrpc.ToConnect(fault.New(fault.NotFound, control.ReasonSandboxNotFound, "none")))},
		// An agent that is too old lists its sandboxes.
		"old agent": {get: failing(connect.NewError(connect.CodeUnimplemented, errors.New("no such call"))), generation: 7},
		// A missing service or route is no answer about a sandbox.
		"no route": {get: failing(connect.NewError(connect.CodeNotFound, errors.New("no route"))), kind: fault.NotFound},
		"another":  {get: func(string) (*hostv1.Sandbox, error) { return found("zzz") }, kind: fault.HostFailed},
		"failing":  {get: failing(faultrpc.ToConnect(fault.New(fault.HostFailed, "host_failed", "no"))), kind: fault.HostFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := connectTo(t, &oneSandbox{get: c.get})
			observed, err := client.Sandbox(t.Context(), "abc")
			if wantErr := c.kind != fault.Internal; wantErr != (err != nil) || wantErr && !fault.Is(err, c.kind) {
				t.Fatalf("error is %v, want kind %v", err, c.kind)
			}
			if (observed != nil) != (c.generation != 0) {
				t.Fatalf("observed is %+v, want generation %d", observed, c.generation)
			}
			if observed != nil && (observed.Ref.ID != "abc" || uint64(observed.Ref.Generation) != c.generation) {
				t.Errorf("observed is of %v, want abc in generation %d", observed.Ref, c.generation)
			}
		})
	}
}

func failing(err error) func(string) (*hostv1.Sandbox, error) {
	return func(string) (*hostv1.Sandbox, error) { return nil, err }
}

// TestDiskPausesOfOldAgents: an agent that would keep the memory, or restore it, is not asked
// for a pause, a resume or a snapshot without it.
func TestDiskPausesOfOldAgents(t *testing.T) {
	t.Parallel()
	ref := sandbox.Ref{ID: "abc", Generation: 2}
	for name, ask := range map[string]func(*hostclient.Client) error{
		"pause":  func(c *hostclient.Client) error { _, err := c.PauseDisk(t.Context(), ref); return err },
		"reboot": func(c *hostclient.Client) error { _, err := c.Reboot(t.Context(), ref); return err },
		"snapshot": func(c *hostclient.Client) error {
			snap, err := c.SnapshotDisk(t.Context(), ref, "snap", control.KindNamed)
			if err == nil && !snap.DiskOnly {
				err = errors.New("the snapshot has a memory")
			}
			return err
		},
	} {
		for _, able := range []bool{true, false} {
			a := &agent{info: &hostv1.GetHostResponse{DiskPauses: able}}
			client, _ := connectTo(t, a)
			err := ask(client)
			switch {
			case able && (err != nil || len(a.asked) != 1):
				t.Errorf("%s: %v, the agent was asked for %v; want one request", name, err, a.asked)
			case !able && (fault.ReasonOf(err) != "disk_pause_unsupported" || !fault.Is(err, fault.Unsupported) || len(a.asked) != 0):
				t.Errorf("%s by an old agent: %v, it was asked for %v; want disk_pause_unsupported and no request", name, err, a.asked)
			}
		}
	}
}
