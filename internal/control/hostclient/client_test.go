package hostclient_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"testing"
	"testing/iotest"
	"time"

	"connectrpc.com/connect"

	hostv1 "github.com/wrenn-dev/wrenn/api/gen/host/v1"
	"github.com/wrenn-dev/wrenn/api/gen/host/v1/hostv1connect"
	"github.com/wrenn-dev/wrenn/api/gen/process"
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
		_, err := c.Create(ctx, ref, sandbox.Spec{})
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
		end  func(cancel func(), srv *httptest.Server) // what happens while the agent works
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
			_, err := client.Create(ctx, ref, sandbox.Spec{})
			if !fault.Is(err, c.kind) || !control.OutcomeUnknown(err) {
				t.Errorf("%v (unknown %t), want %s", err, control.OutcomeUnknown(err), c.kind)
			}
		})
	}
}

func TestNoSocket(t *testing.T) {
	t.Parallel()
	c, err := hostclient.New("unix://"+filepath.Join(t.TempDir(), "none"), "")
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
		"http://u:p@h:1": "x", "http://h:1/path": "x", "h:1": "x", "http://%zz": "x", "http://h:1": "", "https://h:1": "",
	} {
		if _, err := hostclient.New(address, token); !fault.Is(err, fault.Invalid) {
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
		c, err := hostclient.New("http://"+l.Addr().String(), token)
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

type sink struct {
	out, err bytes.Buffer
	fail     error
}

func (s *sink) Stdout(p []byte) error { s.out.Write(p); return s.fail }
func (s *sink) Stderr(p []byte) error { s.err.Write(p); return s.fail }

func event(e *process.ProcessEvent) *hostv1.ExecResponse { return &hostv1.ExecResponse{Event: e} }

func end(code int32, status string) *hostv1.ExecResponse {
	return event(&process.ProcessEvent{Event: &process.ProcessEvent_End{End: &process.ProcessEvent_EndEvent{ExitCode: code, Status: status}}})
}

func output(data *process.ProcessEvent_DataEvent) *hostv1.ExecResponse {
	return event(&process.ProcessEvent{Event: &process.ProcessEvent_Data{Data: data}})
}

func stdout(s string) *hostv1.ExecResponse {
	return output(&process.ProcessEvent_DataEvent{Output: &process.ProcessEvent_DataEvent_Stdout{Stdout: []byte(s)}})
}

func TestExec(t *testing.T) {
	t.Parallel()
	a := &agent{}
	c, _ := connectTo(t, a)
	for status, want := range map[string]control.ExecResult{
		"exit status 3":  {ExitCode: 3},
		"signal: killed": {ExitCode: 137, Signal: "killed"},
		"signal: segmentation fault (core dumped)": {ExitCode: 139, Signal: "segmentation fault"},
		"signal: nonsense":                         {ExitCode: -1, Signal: "nonsense"},
	} {
		a.exec = func(_ context.Context, r *hostv1.ExecRequest, send func(*hostv1.ExecResponse) error) error {
			code := int32(-1)
			if want.Signal == "" {
				code = int32(want.ExitCode)
			}
			return errors.Join(
				send(event(&process.ProcessEvent{Event: &process.ProcessEvent_Start{Start: &process.ProcessEvent_StartEvent{Pid: 7}}})),
				send(stdout("out of "+r.GetStart().GetProcess().GetCmd())),
				send(output(&process.ProcessEvent_DataEvent{Output: &process.ProcessEvent_DataEvent_Stderr{Stderr: []byte("err")}})),
				send(event(&process.ProcessEvent{Event: &process.ProcessEvent_Keepalive{Keepalive: &process.ProcessEvent_KeepAlive{}}})),
				send(end(code, status)))
		}
		var s sink
		res, err := c.Exec(t.Context(), ref, control.Exec{Cmd: "ls"}, &s)
		if err != nil || res.ExitCode != want.ExitCode || res.Signal != want.Signal || res.Duration <= 0 {
			t.Errorf("%s: %+v, %v, want %+v", status, res, err, want)
		}
		if s.out.String() != "out of ls" || s.err.String() != "err" {
			t.Errorf("%s: output %q, %q", status, s.out.String(), s.err.String())
		}
	}
	if _, err := c.Exec(t.Context(), ref, control.Exec{Stdin: []byte("x")}, &sink{}); !fault.Is(err, fault.Unsupported) {
		t.Errorf("stdin: %v, want Unsupported", err)
	}
}

func TestExecEndsEarly(t *testing.T) {
	t.Parallel()
	a := &agent{}
	c, _ := connectTo(t, a)
	a.exec = func(context.Context, *hostv1.ExecRequest, func(*hostv1.ExecResponse) error) error { return nil }
	if _, err := c.Exec(t.Context(), ref, control.Exec{}, &sink{}); fault.ReasonOf(err) != "host_protocol" {
		t.Errorf("no end: %v", err)
	}
	a.exec = func(context.Context, *hostv1.ExecRequest, func(*hostv1.ExecResponse) error) error {
		return faultrpc.ToConnect(fault.New(fault.Timeout, "exec_timeout", "too slow"))
	}
	if _, err := c.Exec(t.Context(), ref, control.Exec{}, &sink{}); fault.ReasonOf(err) != "exec_timeout" {
		t.Errorf("timeout in the guest: %v", err)
	}
	// A sink that fails ends the call, and so the command.
	gone := make(chan error, 1)
	a.exec = func(ctx context.Context, _ *hostv1.ExecRequest, send func(*hostv1.ExecResponse) error) error {
		if err := send(stdout("x")); err != nil {
			return err
		}
		<-ctx.Done()
		gone <- ctx.Err()
		return ctx.Err()
	}
	full := errors.New("full")
	if _, err := c.Exec(t.Context(), ref, control.Exec{}, &sink{fail: full}); !errors.Is(err, full) {
		t.Errorf("sink: %v", err)
	}
	<-gone
}

// zeros is an endless file.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// drain reads an upload to its end as an agent does.
func drain(s *connect.ClientStream[hostv1.WriteFileRequest]) (n int64, largest int, err error) {
	for s.Receive() {
		chunk := s.Msg().GetChunk()
		n += int64(len(chunk))
		largest = max(largest, len(chunk))
	}
	return n, largest, s.Err()
}

func TestWriteFile(t *testing.T) {
	t.Parallel()
	a := &agent{}
	c, _ := connectTo(t, a)
	for _, size := range []int64{0, 1, 256 << 10, 256<<10 + 1, 64 << 20} {
		a.write = func(s *connect.ClientStream[hostv1.WriteFileRequest]) (int64, error) {
			s.Receive()
			if o := s.Msg().GetOpen(); o.GetRef().GetGeneration() != 2 || o.GetPath() != "/f" || o.GetUser() != "u" || o.GetMode() != 0o600 {
				t.Errorf("open: %v", o)
			}
			n, largest, err := drain(s)
			if largest > 256<<10 {
				t.Errorf("a chunk of %d bytes", largest)
			}
			return n, err
		}
		mode := uint32(0o600)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		n, err := c.WriteFile(t.Context(), ref, control.WriteFile{Path: "/f", User: "u", Mode: &mode}, io.LimitReader(zeros{}, size))
		runtime.ReadMemStats(&after)
		if err != nil || n != size {
			t.Errorf("%d bytes: %d, %v", size, n, err)
		}
		if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 32<<20 {
			t.Errorf("%d bytes: the heap grew by %d", size, grown)
		}
	}
}

func TestWriteFileFails(t *testing.T) {
	t.Parallel()
	a := &agent{}
	c, _ := connectTo(t, a)
	// The agent refuses in the middle of a large upload: its reason arrives.
	a.write = func(s *connect.ClientStream[hostv1.WriteFileRequest]) (int64, error) {
		s.Receive()
		return 0, faultrpc.ToConnect(fault.New(fault.Invalid, "is_directory", "it is a directory"))
	}
	_, err := c.WriteFile(t.Context(), ref, control.WriteFile{Path: "/f"}, io.LimitReader(zeros{}, 64<<20))
	if !fault.Is(err, fault.Invalid) || fault.ReasonOf(err) != "is_directory" {
		t.Errorf("refused: %v", err)
	}
	// The upload breaks: the agent must not take it for the whole file.
	for _, broke := range []error{io.ErrUnexpectedEOF, fault.New(fault.TooLarge, "too_large", "too large")} {
		ended := make(chan error, 1)
		a.write = func(s *connect.ClientStream[hostv1.WriteFileRequest]) (int64, error) {
			_, _, err := drain(s)
			ended <- err
			return 0, err
		}
		content := io.MultiReader(bytes.NewReader(make([]byte, 300<<10)), iotest.ErrReader(broke))
		if _, err := c.WriteFile(t.Context(), ref, control.WriteFile{Path: "/f"}, content); !errors.Is(err, broke) {
			t.Errorf("broken upload: %v, want %v", err, broke)
		}
		if err := <-ended; err == nil {
			t.Errorf("%v: the agent saw an orderly end", broke)
		}
	}
}

func chunk(p []byte) *hostv1.ReadFileResponse {
	return &hostv1.ReadFileResponse{Message: &hostv1.ReadFileResponse_Chunk{Chunk: p}}
}

func fileInfo(size int64) *hostv1.ReadFileResponse {
	return &hostv1.ReadFileResponse{Message: &hostv1.ReadFileResponse_Info{Info: &hostv1.FileInfo{Name: "f", Size: size}}}
}

func TestReadFile(t *testing.T) {
	t.Parallel()
	a := &agent{}
	c, _ := connectTo(t, a)
	const size = 1<<20 + 1
	a.read = func(_ context.Context, r *hostv1.ReadFileRequest, send func(*hostv1.ReadFileResponse) error) error {
		if r.GetPath() != "/f" || r.GetUser() != "u" || r.GetRef().GetId() != "abc" {
			t.Errorf("%v", r)
		}
		err := send(fileInfo(size))
		for left := size; left > 0 && err == nil; left -= 64 << 10 {
			err = send(chunk(make([]byte, min(left, 64<<10))))
		}
		return err
	}
	f, err := c.ReadFile(t.Context(), ref, "/f", "u")
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, f.Body)
	if err != nil || n != size || f.Size != size || f.Name != "f" {
		t.Errorf("%d bytes of %+v, %v", n, f, err)
	}
	if err := f.Body.Close(); err != nil {
		t.Error(err)
	}
}

func TestReadFileFails(t *testing.T) {
	t.Parallel()
	a := &agent{}
	c, _ := connectTo(t, a)
	missing := faultrpc.ToConnect(fault.New(fault.NotFound, "file_not_found", "no such file"))
	a.read = func(context.Context, *hostv1.ReadFileRequest, func(*hostv1.ReadFileResponse) error) error {
		return missing
	}
	if _, err := c.ReadFile(t.Context(), ref, "/f", ""); fault.ReasonOf(err) != "file_not_found" {
		t.Errorf("missing: %v", err)
	}
	a.read = func(_ context.Context, _ *hostv1.ReadFileRequest, send func(*hostv1.ReadFileResponse) error) error {
		return send(chunk([]byte("x")))
	}
	if _, err := c.ReadFile(t.Context(), ref, "/f", ""); fault.ReasonOf(err) != "host_protocol" {
		t.Errorf("no info: %v", err)
	}
	// It breaks in the middle: that is no end of file.
	a.read = func(_ context.Context, _ *hostv1.ReadFileRequest, send func(*hostv1.ReadFileResponse) error) error {
		return errors.Join(send(fileInfo(10)), send(chunk([]byte("half"))), missing)
	}
	f, err := c.ReadFile(t.Context(), ref, "/f", "")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(f.Body); err == nil || string(b) != "half" {
		t.Errorf("cut: %q, %v", b, err)
	}
	// The reader loses interest: the agent is told.
	gone := make(chan struct{})
	a.read = func(ctx context.Context, _ *hostv1.ReadFileRequest, send func(*hostv1.ReadFileResponse) error) error {
		err := send(fileInfo(-1))
		<-ctx.Done()
		close(gone)
		return err
	}
	if f, err = c.ReadFile(t.Context(), ref, "/f", ""); err != nil {
		t.Fatal(err)
	}
	if err := f.Body.Close(); err != nil {
		t.Error(err)
	}
	<-gone
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
	err := c.Watch(t.Context(), func() { got = append(got, "ready") }, func(v control.View) {
		if v.Ref == ref && v.State == control.ViewStopped && v.StopReason == sandbox.ReasonOOM {
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
