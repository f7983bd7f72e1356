package hostclient_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/api/gen/host/v1/hostv1connect"
	"github.com/wrenn-dev/wrenn/internal/control/hostclient"
)

// agent is a host agent; each test supplies the methods that it needs.
type agent struct {
	hostv1connect.UnimplementedHostServiceHandler
	create func(context.Context, *hostv1.CreateSandboxRequest) (*hostv1.CreateSandboxResponse, error)
	exec   func(context.Context, *hostv1.ExecRequest, func(*hostv1.ExecResponse) error) error
	input  func(context.Context, *connect.BidiStream[hostv1.ExecWithInputRequest, hostv1.ExecWithInputResponse]) error
	load   func(*importStream) error
	write  func(*connect.ClientStream[hostv1.WriteFileRequest]) (int64, error)
	read   func(context.Context, *hostv1.ReadFileRequest, func(*hostv1.ReadFileResponse) error) error
	watch  func(func(*hostv1.WatchEventsResponse) error) error
	info   *hostv1.GetHostResponse
	// asked are the requests about clocks, snapshots and garbage.
	asked []any
}

func (a *agent) SetTimeouts(_ context.Context, r *connect.Request[hostv1.SetTimeoutsRequest]) (*connect.Response[hostv1.SetTimeoutsResponse], error) {
	a.asked = append(a.asked, r.Msg)
	return connect.NewResponse(&hostv1.SetTimeoutsResponse{Sandbox: &hostv1.Sandbox{Ref: r.Msg.GetRef()}}), nil
}

func (a *agent) PauseSandbox(_ context.Context, r *connect.Request[hostv1.PauseSandboxRequest]) (*connect.Response[hostv1.PauseSandboxResponse], error) {
	a.asked = append(a.asked, r.Msg)
	return connect.NewResponse(&hostv1.PauseSandboxResponse{Sandbox: &hostv1.Sandbox{Ref: r.Msg.GetRef()}}), nil
}

func (a *agent) ResumeSandbox(_ context.Context, r *connect.Request[hostv1.ResumeSandboxRequest]) (*connect.Response[hostv1.ResumeSandboxResponse], error) {
	a.asked = append(a.asked, r.Msg)
	return connect.NewResponse(&hostv1.ResumeSandboxResponse{Sandbox: &hostv1.Sandbox{Ref: r.Msg.GetRef()}}), nil
}

func (a *agent) CreateSnapshot(_ context.Context, r *connect.Request[hostv1.CreateSnapshotRequest]) (*connect.Response[hostv1.CreateSnapshotResponse], error) {
	a.asked = append(a.asked, r.Msg)
	return connect.NewResponse(&hostv1.CreateSnapshotResponse{Snapshot: &hostv1.Snapshot{Id: r.Msg.GetSnapshotId(), DiskOnly: r.Msg.GetDiskOnly()}}), nil
}

func (a *agent) DeleteSnapshot(_ context.Context, r *connect.Request[hostv1.DeleteSnapshotRequest]) (*connect.Response[hostv1.DeleteSnapshotResponse], error) {
	a.asked = append(a.asked, r.Msg)
	return connect.NewResponse(&hostv1.DeleteSnapshotResponse{}), nil
}

func (a *agent) ListSnapshots(context.Context, *connect.Request[hostv1.ListSnapshotsRequest]) (*connect.Response[hostv1.ListSnapshotsResponse], error) {
	return connect.NewResponse(&hostv1.ListSnapshotsResponse{Snapshots: []*hostv1.Snapshot{{Id: "a"}, {Id: "b"}}}), nil
}

func (a *agent) CollectGarbage(_ context.Context, r *connect.Request[hostv1.CollectGarbageRequest]) (*connect.Response[hostv1.CollectGarbageResponse], error) {
	a.asked = append(a.asked, r.Msg)
	return connect.NewResponse(&hostv1.CollectGarbageResponse{Items: []*hostv1.CollectGarbageResponse_Item{{Id: "g", Bytes: 3}}}), nil
}

func (a *agent) CreateSandbox(ctx context.Context, r *connect.Request[hostv1.CreateSandboxRequest]) (*connect.Response[hostv1.CreateSandboxResponse], error) {
	res, err := a.create(ctx, r.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (a *agent) Exec(ctx context.Context, r *connect.Request[hostv1.ExecRequest], s *connect.ServerStream[hostv1.ExecResponse]) error {
	return a.exec(ctx, r.Msg, s.Send)
}

func (a *agent) ExecWithInput(ctx context.Context, s *connect.BidiStream[hostv1.ExecWithInputRequest, hostv1.ExecWithInputResponse]) error {
	return a.input(ctx, s)
}

func (a *agent) ImportImage(_ context.Context, s *importStream) error { return a.load(s) }

func (a *agent) WriteFile(_ context.Context, s *connect.ClientStream[hostv1.WriteFileRequest]) (*connect.Response[hostv1.WriteFileResponse], error) {
	n, err := a.write(s)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&hostv1.WriteFileResponse{Size: n}), nil
}

func (a *agent) ReadFile(ctx context.Context, r *connect.Request[hostv1.ReadFileRequest], s *connect.ServerStream[hostv1.ReadFileResponse]) error {
	return a.read(ctx, r.Msg, s.Send)
}

func (a *agent) WatchEvents(_ context.Context, _ *connect.Request[hostv1.WatchEventsRequest], s *connect.ServerStream[hostv1.WatchEventsResponse]) error {
	return a.watch(s.Send)
}

func (a *agent) GetHost(context.Context, *connect.Request[hostv1.GetHostRequest]) (*connect.Response[hostv1.GetHostResponse], error) {
	return connect.NewResponse(a.info), nil
}

// serve serves h on l as a host agent does: HTTP/1 and HTTP/2 without TLS.
func serve(t *testing.T, l net.Listener, h http.Handler) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Listener.Close()
	srv.Listener = l
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

// connectTo serves a on a unix socket and returns a client of it.
func connectTo(t *testing.T, a hostv1connect.HostServiceHandler) (*hostclient.Client, *httptest.Server) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(hostv1connect.NewHostServiceHandler(a))
	srv := serve(t, l, mux)
	c, err := hostclient.New("unix://"+path, hostclient.Access{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, srv
}
