package guestclient_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/agent"
	"github.com/wrenn-dev/wrenn/internal/guest/agent/agenttest"
	"github.com/wrenn-dev/wrenn/internal/guest/channel"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
)

const patience = 20 * time.Second

// newClient returns a client of a real, configured guest service.
func newClient(t testing.TB) *guestclient.Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := agent.New(agent.Config{Platform: agenttest.NewPlatform(nil), Log: slog.New(slog.DiscardHandler), Version: "test"})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- channel.New(a).Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		grace, stop := context.WithTimeout(context.Background(), patience)
		defer stop()
		if err := a.Close(grace); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	c := guestclient.New(dialer(listener.Addr().String()))
	t.Cleanup(c.Close)
	configure(t, c)
	return c
}

func dialer(address string) guestclient.Dialer {
	return func(ctx context.Context, _ uint16) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
}

func configure(t testing.TB, c *guestclient.Client) {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	resp, err := c.Configure(t.Context(), &guestv1.ConfigureRequest{
		SandboxId: "abc", Entropy: make([]byte, 32),
		AccessToken: "secret", DefaultUser: me.Username,
	})
	if err != nil || !resp.GetReseeded() {
		t.Fatalf("configure: %v, %v", resp, err)
	}
	c.SetToken("secret")
}

func shell(script string) *process.StartRequest {
	return &process.StartRequest{Process: &process.ProcessConfig{Cmd: "/bin/sh", Args: []string{"-c", script}}, Stdin: new(bool)}
}

// drain reads a stream to its error.
func drain(s *guestclient.Stream) (stdout string, end *process.ProcessEvent_EndEvent, err error) {
	for {
		event, err := s.Receive()
		if err != nil {
			return stdout, end, err
		}
		stdout += string(event.GetData().GetStdout())
		if event.GetEnd() != nil {
			end = event.GetEnd()
		}
	}
}

func TestExec(t *testing.T) {
	c := newClient(t)
	s, err := c.Start(t.Context(), shell("echo hi; exit 5"), guestclient.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, end, err := drain(s)
	if out != "hi\n" || end.GetExitCode() != 5 || !errors.Is(err, io.EOF) {
		t.Errorf("%q, %v, %v", out, end, err)
	}
}

func TestExecFaults(t *testing.T) {
	c := newClient(t)
	nowhere := "/no/such/place"
	lost := shell("true")
	lost.Process.Cwd = &nowhere
	tests := []struct {
		name   string
		req    *process.StartRequest
		opt    guestclient.StartOptions
		kind   fault.Kind
		reason string
	}{
		{"timeout", shell("echo hi; sleep 1000"), guestclient.StartOptions{Timeout: 300 * time.Millisecond}, fault.Timeout, guestclient.ReasonExecTimeout},
		{"command", &process.StartRequest{Process: &process.ProcessConfig{Cmd: "no-such"}}, guestclient.StartOptions{}, fault.Invalid, guestclient.ReasonCommandNotFound},
		{"cwd", lost, guestclient.StartOptions{}, fault.Invalid, guestclient.ReasonInvalidCwd},
		{"user", shell("true"), guestclient.StartOptions{User: "no-such"}, fault.Invalid, guestclient.ReasonUnknownUser},
	}
	for _, tt := range tests {
		s, err := c.Start(t.Context(), tt.req, tt.opt)
		if err == nil {
			_, _, err = drain(s)
			_ = s.Close()
		}
		if !fault.Is(err, tt.kind) || fault.ReasonOf(err) != tt.reason {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestKill(t *testing.T) {
	c := newClient(t)
	s, err := c.Start(t.Context(), shell("sleep 1000"), guestclient.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	event, err := s.Receive()
	if err != nil {
		t.Fatal(err)
	}
	pid := event.GetStart().GetPid()
	if err := c.Kill(t.Context(), pid); err != nil {
		t.Fatal(err)
	}
	if _, end, _ := drain(s); end.GetExitCode() != -1 || end.GetStatus() != "signal: killed" {
		t.Errorf("%v", end)
	}
	if err := c.Kill(t.Context(), pid); !fault.Is(err, fault.NotFound) {
		t.Errorf("killed twice: %v", err)
	}
}

func TestFiles(t *testing.T) {
	c := newClient(t)
	path := filepath.Join(t.TempDir(), "sub/file")
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	mode := uint32(0o640)
	n, err := c.WriteFile(t.Context(), guestclient.WriteFile{Path: path, Mode: &mode}, bytes.NewReader(content))
	if err != nil || n != int64(len(content)) {
		t.Fatalf("%d, %v", n, err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", fi, err)
	}
	f, err := c.ReadFile(t.Context(), guestclient.ReadFile{Path: path})
	if err != nil || f.Size != int64(len(content)) || f.Name != "file" {
		t.Fatalf("%+v, %v", f, err)
	}
	defer f.Body.Close()
	if got, err := io.ReadAll(f.Body); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	kernel, err := c.ReadFile(t.Context(), guestclient.ReadFile{Path: "/proc/self/status"})
	if err != nil || kernel.Size != -1 {
		t.Errorf("%+v, %v", kernel, err)
	}
	_ = kernel.Body.Close()
}

func TestFileFaults(t *testing.T) {
	c := newClient(t)
	dir := t.TempDir()
	for path, want := range map[string]string{dir + "/none": guestclient.ReasonFileNotFound, dir: guestclient.ReasonIsDirectory} {
		if _, err := c.ReadFile(t.Context(), guestclient.ReadFile{Path: path}); fault.ReasonOf(err) != want {
			t.Errorf("read %s: %v", path, err)
		}
	}
	if _, err := c.WriteFile(t.Context(), guestclient.WriteFile{Path: dir}, strings.NewReader("x")); fault.ReasonOf(err) != guestclient.ReasonIsDirectory {
		t.Errorf("write: %v", err)
	}
	if _, err := c.WriteFile(t.Context(), guestclient.WriteFile{Path: dir + "/f", User: "no-such"}, strings.NewReader("x")); !fault.Is(err, fault.Invalid) {
		t.Errorf("user: %v", err)
	}
	broken := errors.New("the uploader went away")
	body := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken))
	if _, err := c.WriteFile(t.Context(), guestclient.WriteFile{Path: dir + "/f"}, body); !errors.Is(err, broken) {
		t.Errorf("broken upload: %v", err)
	}
	if _, err := os.Stat(dir + "/f"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a broken upload left a file: %v", err)
	}
}

func TestCloseAbortsStreams(t *testing.T) {
	c := newClient(t)
	s, err := c.Start(t.Context(), shell("sleep 1000"), guestclient.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive(); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := s.Receive(); !fault.Is(err, fault.HostFailed) {
		t.Errorf("stream: %v", err)
	}
	if _, err := c.Quiesce(t.Context()); fault.ReasonOf(err) != "guest_gone" {
		t.Errorf("call: %v", err)
	}
	if err := c.WaitReady(t.Context()); fault.ReasonOf(err) != "guest_gone" {
		t.Errorf("wait: %v", err)
	}
}

func TestQuiesce(t *testing.T) {
	c := newClient(t)
	resp, err := c.Quiesce(t.Context())
	if err != nil || resp.GetFrozen() != agenttest.Frozen {
		t.Fatalf("%v, %v", resp, err)
	}
	if _, err := c.ReadFile(t.Context(), guestclient.ReadFile{Path: "/etc/passwd"}); !fault.Is(err, fault.HostFailed) {
		t.Errorf("a sealed guest: %v", err)
	}
	configure(t, c)
}

func TestOutcome(t *testing.T) {
	c := newClient(t)
	event, err := c.Outcome(t.Context(), agenttest.Orphan)
	if err != nil || event.GetEnd().GetStatus() != "signal: killed" || event.GetEnd().GetExited() {
		t.Errorf("the end of an agenttest.Orphan: got %v, %v, want signal: killed", event, err)
	}
	if _, err := c.Outcome(t.Context(), agenttest.Orphan+1); fault.ReasonOf(err) != "process_not_found" {
		t.Errorf("the end of a process that is none: got %v, want process_not_found", err)
	}
}
