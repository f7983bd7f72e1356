package hostclient_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/api/gen/host/v1/hostv1connect"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/hostclient"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

var ref = sandbox.Ref{ID: "abc", Generation: 2}

func TestCreateErrors(t *testing.T) {
	t.Parallel()
	a := &agent{}
	c, srv := connectTo(t, a)
	create := func(ctx context.Context) error {
		_, err := c.Create(ctx, ref, sandbox.Spec{}, "")
		return err
	}
	check := func(name string, err error, kind fault.Kind, reason string, unknown bool) {
		t.Helper()
		if !fault.Is(err, kind) || fault.ReasonOf(err) != reason || control.OutcomeUnknown(err) != unknown {
			t.Errorf("%s: %v (unknown %t), want %s %s (unknown %t)", name, err, control.OutcomeUnknown(err), kind, reason, unknown)
		}
	}
	for _, kind := range fault.Kinds() {
		a.create = func(context.Context, *hostv1.CreateSandboxRequest) (*hostv1.CreateSandboxResponse, error) {
			return nil, faultrpc.ToConnect(fault.New(kind, "some_reason", "public"))
		}
		check(kind.String(), create(t.Context()), kind, "some_reason", kind == fault.Timeout || kind == fault.Canceled)
	}

	// With the agent gone a call fails on the old connection or on the new one,
	// and either way it is the host's failure.
	srv.Close()
	if err := create(t.Context()); !fault.Is(err, fault.HostFailed) {
		t.Errorf("gone: %v", err)
	}
}

// TestCreateUnanswered has calls end without the agent's word.
func TestCreateUnanswered(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  func(cancel func(), srv *httptest.Server) // called while the agent works
		kind fault.Kind
	}{
		"agent dies":  {func(_ func(), srv *httptest.Server) { srv.CloseClientConnections() }, fault.HostFailed},
		"caller goes": {func(cancel func(), _ *httptest.Server) { cancel() }, fault.Canceled},
		"time is up":  {func(func(), *httptest.Server) {}, fault.Timeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit := time.Hour
			if c.kind == fault.Timeout {
				limit = 50 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			a := &agent{}
			client, srv := connectTo(t, a)
			a.create = func(ctx context.Context, _ *hostv1.CreateSandboxRequest) (*hostv1.CreateSandboxResponse, error) {
				c.end(cancel, srv)
				<-ctx.Done()
				return nil, ctx.Err()
			}
			_, err := client.Create(ctx, ref, sandbox.Spec{}, "")
			if !fault.Is(err, c.kind) || !control.OutcomeUnknown(err) {
				t.Errorf("%v (unknown %t), want %s", err, control.OutcomeUnknown(err), c.kind)
			}
		})
	}
}

func TestNoSocket(t *testing.T) {
	t.Parallel()
	c, err := hostclient.New("unix://"+filepath.Join(t.TempDir(), "none"), hostclient.Access{})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Destroy(t.Context(), ref, sandbox.ReasonDestroyed)
	if fault.ReasonOf(err) != "host_unreachable" || control.OutcomeUnknown(err) {
		t.Errorf("%v", err)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for address, token := range map[string]string{
		"": "x", "unix://rel/path": "x", "unix:rel": "x", "/run/a.sock": "x", "ftp://h": "x", "http://": "x",
		"http://u:p@h:1": "x", "http://h:1/path": "x", "h:1": "x", "http://%zz": "x", "http://h:1": "x", "http://10.0.0.1:1": "x",
		"http://localhost:1": "", "http://[::1]:1": "", "https://h:1": "",
	} {
		if _, err := hostclient.New(address, hostclient.Access{Token: token}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q with token %q: %v, want Invalid", address, token, err)
		}
	}
}

// TestToken is also the test of TCP.
func TestToken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, inner := hostv1connect.NewHostServiceHandler(&agent{info: &hostv1.GetHostResponse{HostId: "h"}})
	serve(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			refused := fault.New(fault.Unauthenticated, "unauthenticated", "no")
			_ = connect.NewErrorWriter().Write(w, r, faultrpc.ToConnect(refused))
			return
		}
		inner.ServeHTTP(w, r)
	}))
	for token, ok := range map[string]bool{"secret": true, "wrong": false} {
		c, err := hostclient.New("http://"+l.Addr().String(), hostclient.Access{Token: token})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, err = c.Info(t.Context())
		if (err == nil) != ok || !ok && !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("token %s: %v", token, err)
		}
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	c, _ := connectTo(t, &agent{watch: func(send func(*hostv1.WatchEventsResponse) error) error {
		return errors.Join(
			send(&hostv1.WatchEventsResponse{Event: &hostv1.WatchEventsResponse_Hello_{}}),
			send(&hostv1.WatchEventsResponse{Event: &hostv1.WatchEventsResponse_Sandbox{Sandbox: &hostv1.Sandbox{
				Ref: &hostv1.Ref{Id: "abc", Generation: 2}, State: hostv1.SandboxState_SANDBOX_STATE_STOPPED, StopReason: "oom",
			}}}))
	}})
	var got []string
	err := c.Watch(t.Context(), func() { got = append(got, "ready") }, func(v control.ObservedSandbox) {
		if v.Ref == ref && v.State == control.VMStopped && v.StopReason == sandbox.ReasonOOM {
			got = append(got, "event")
		}
	})
	if err == nil || len(got) != 2 || got[0] != "ready" || got[1] != "event" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestFleet(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(hostv1connect.NewHostServiceHandler(&agent{info: &hostv1.GetHostResponse{HostId: "a", MaxVcpus: 4}}))
	srv := serve(t, l, mux)
	f, err := hostclient.NewFleet([]hostclient.Member{{ID: "a", Address: "unix://" + path}, {ID: "b", Address: "unix://" + path}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if h := f.Hosts(); len(h) != 2 || h[0].ID != "a" || h[0].Reachable {
		t.Errorf("before: %+v", h)
	}
	if _, err := f.Refresh(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if _, err := f.Refresh(t.Context(), "b"); fault.ReasonOf(err) != "host_mismatch" {
		t.Errorf("another host's agent: %v", err)
	}
	if h := f.Hosts(); !h[0].Reachable || h[0].SeenAt.IsZero() || h[1].Reachable {
		t.Errorf("asked: %+v", h)
	}
	srv.Close()
	if _, err := f.Refresh(t.Context(), "a"); !fault.Is(err, fault.HostFailed) {
		t.Errorf("down: %v", err)
	}
	if h := f.Hosts(); h[0].Reachable || h[0].Limits.MaxVCPUs != 4 {
		t.Errorf("down: %+v", h[0])
	}
	if _, ok := f.Host("nosuch"); ok {
		t.Error("an unknown host is found")
	}
	for _, bad := range [][]hostclient.Member{{{ID: "", Address: "unix:///x"}}, {{ID: "a", Address: "unix:///x"}, {ID: "a", Address: "unix:///y"}}, {{ID: "a", Address: "nowhere"}}} {
		if _, err := hostclient.NewFleet(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v, want Invalid", bad, err)
		}
	}
}
