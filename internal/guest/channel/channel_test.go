package channel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/wrenn-dev/wrenn/api/gen/process"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/guest/agent"
	"github.com/wrenn-dev/wrenn/internal/guest/agent/agenttest"
	"github.com/wrenn-dev/wrenn/internal/guest/envd"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// wire is the host's end of one connection of the control channel.
type wire struct {
	t    *testing.T
	conn net.Conn
	*guestwire.Reader
}

const testPatience = 20 * time.Second

// guest is an agent with a control channel and a platform of the test.
type guest struct {
	t        *testing.T
	platform *agenttest.Platform
	agent    *agent.Agent
	server   *Server
	user     string
}

// newGuest returns a sealed guest.
func newGuest(t *testing.T) *guest {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	platform := agenttest.NewPlatform(nil)
	a := agent.New(agent.Config{Platform: platform, Log: slog.New(slog.DiscardHandler), Version: "test"})
	t.Cleanup(func() {
		grace, stop := context.WithTimeout(context.Background(), testPatience)
		defer stop()
		if err := a.Close(grace); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return &guest{t: t, platform: platform, agent: a, server: New(a), user: me.Username}
}

// channel serves the control channel and returns a function that connects to it.
func (g *guest) channel() func() *wire {
	g.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.server.Serve(ctx, listener) }()
	g.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			g.t.Errorf("serve: %v", err)
		}
	})
	return func() *wire {
		g.t.Helper()
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			g.t.Fatal(err)
		}
		g.t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(testPatience))
		return &wire{g.t, conn, guestwire.NewReader(conn)}
	}
}

func (w *wire) write(b []byte) {
	w.t.Helper()
	if _, err := w.conn.Write(b); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wire) call(t guestwire.Type, token string, m proto.Message) {
	w.t.Helper()
	var body []byte
	if m != nil {
		var err error
		if body, err = proto.Marshal(m); err != nil {
			w.t.Fatal(err)
		}
	}
	b, err := guestwire.AppendCall(nil, t, token, body)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(b)
}

// answer reads one frame and demands its type.
func (w *wire) answer(want guestwire.Type, into proto.Message) {
	w.t.Helper()
	t, payload, err := w.Frame(1 << 20)
	if err != nil || t != want {
		w.t.Fatalf("got frame %#x %q, %v; want %#x", t, payload, err, want)
	}
	if into != nil {
		if err := proto.Unmarshal(payload, into); err != nil {
			w.t.Fatal(err)
		}
	}
}

// refused reads a failure with reason.
func (w *wire) refused(reason string) {
	w.t.Helper()
	f := &guestv1.Failure{}
	w.answer(guestwire.Failure, f)
	if f.GetReason() != reason {
		w.t.Errorf("refused for %q, want %q", f.GetReason(), reason)
	}
}

// closed demands that the guest hangs up.
func (w *wire) closed() {
	w.t.Helper()
	if _, _, err := w.Header(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		w.t.Errorf("the connection is still open: %v", err)
	}
}

func (g *guest) request() *guestv1.ConfigureRequest {
	return &guestv1.ConfigureRequest{
		SandboxId: "abc", WallClockUnixNano: time.Now().Add(-time.Hour).UnixNano(), Entropy: make([]byte, 32), Hostname: "sb",
		Nameservers: []string{"192.0.2.1"}, NewIdentity: true, DefaultUser: g.user, AccessToken: "secret", EnvdToken: "public secret",
		Envs: map[string]string{"FROM": "sandbox"},
	}
}

// openChannel configures the guest over its channel.
func (g *guest) openChannel() (dial func() *wire) {
	g.t.Helper()
	dial = g.channel()
	w := dial()
	w.call(guestwire.Configure, "", g.request())
	w.answer(guestwire.Answer, nil)
	return dial
}

func TestChannelConfigures(t *testing.T) {
	g := newGuest(t)
	w := g.channel()()
	w.call(guestwire.Ping, "", nil)
	w.answer(guestwire.Answer, nil)
	w.call(guestwire.Configure, "", g.request())
	resp := &guestv1.ConfigureResponse{}
	w.answer(guestwire.Answer, resp)
	if !resp.GetReseeded() || !resp.GetNewIdentity() || resp.GetConnectionsClosed() != 2 || resp.GetGuestVersion() != "test" {
		t.Errorf("%v", resp)
	}
	if age := time.Since(time.Unix(0, resp.GetWallClockUnixNano())); age < 0 || age > testPatience {
		t.Errorf("the guest's clock is %v behind", age)
	}
	for _, step := range []string{"reseed", "clock", "identity", "accounts", "connections", "thaw"} {
		if _, ok := resp.GetStepMicros()[step]; !ok {
			t.Errorf("no time for step %s", step)
		}
	}
	configureSteps := []string{"load", "reseed", "clock", "renew", "hostname", "nameservers", "save", "connections", "thaw"}
	if got := g.platform.Steps(); !slices.Equal(got, configureSteps) {
		t.Errorf("steps %v, want %v", got, configureSteps)
	}
	// The public protocol is open now too, with a token of its own.
	public := httptest.NewServer(envd.New(g.agent).Handler())
	defer public.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, public.URL+"/envs", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Access-Token", "public secret")
	answer, err := public.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); err != nil || string(body) != `{"FROM":"sandbox"}` {
		t.Errorf("GET /envs: got %d %s, %v; want the environment of Configure", answer.StatusCode, body, err)
	}
}

func TestSealedChannelAnswersLittle(t *testing.T) {
	dial := newGuest(t).channel()
	for _, call := range []guestwire.Type{guestwire.Quiesce, guestwire.Exec, guestwire.Input, guestwire.Kill, guestwire.WriteFile, guestwire.ReadFile, guestwire.Answer} {
		w := dial()
		w.call(call, "", nil)
		w.refused("guest_sealed")
		w.closed()
	}
}

func TestChannelWantsTheToken(t *testing.T) {
	dial := newGuest(t).openChannel()
	for _, token := range []string{"", "wrong", "secre", "secret2"} {
		for _, call := range []guestwire.Type{guestwire.Configure, guestwire.Quiesce, guestwire.Exec, guestwire.Kill, guestwire.ReadFile} {
			w := dial()
			w.call(call, token, nil)
			w.refused("unauthenticated")
			w.closed()
		}
	}
}

// TestChannelRefusesBadFrames: none of them is answered or read further.
func TestChannelRefusesBadFrames(t *testing.T) {
	dial := newGuest(t).openChannel()
	for name, b := range map[string][]byte{
		"another protocol": []byte("GET / HTTP/1.1\r\n\r\n"),
		"too large":        guestwire.AppendHeader(nil, guestwire.Exec, agent.MaxMessageBytes+1),
		"token too long":   append(guestwire.AppendHeader(nil, guestwire.Exec, 1<<16), 0xff, 0xff),
		"unknown call":     append(guestwire.AppendHeader(nil, 0x7f, 8), "\x00\x06secret"...),
		"ping with more":   append(guestwire.AppendHeader(nil, guestwire.Ping, 3), 0, 0, 'x'),
	} {
		t.Run(name, func(t *testing.T) {
			w := dial()
			w.write(b)
			w.closed()
		})
	}
	w := dial()
	w.write(append(guestwire.AppendHeader(nil, guestwire.Kill, 10), "\x00\x06secret\xff\xff"...))
	w.refused("invalid_message")
	w.call(guestwire.Ping, "", nil)
	w.answer(guestwire.Answer, nil)
}

func TestConfigureClosesOtherConnections(t *testing.T) {
	g := newGuest(t)
	dial := g.openChannel()
	other := dial()
	other.call(guestwire.Ping, "", nil)
	other.answer(guestwire.Answer, nil)
	own := dial()
	own.call(guestwire.Configure, "secret", g.request())
	own.answer(guestwire.Answer, nil)
	other.closed()
	own.call(guestwire.Ping, "", nil)
	own.answer(guestwire.Answer, nil)
}

// TestQuiesceCutsTheChannelOff: a command's stream and a half-sent file end, the
// file's path is as it was.
func TestQuiesceCutsTheChannelOff(t *testing.T) {
	g := newGuest(t)
	dial := g.openChannel()
	exec := dial()
	exec.call(guestwire.Exec, "secret", &guestv1.ExecCall{Start: &pb.StartRequest{Process: &pb.ProcessConfig{Cmd: "sleep", Args: []string{"1000"}}}})
	exec.answer(guestwire.Event, nil)
	upload, path := dial(), filepath.Join(t.TempDir(), "file")
	upload.call(guestwire.WriteFile, "secret", &guestv1.WriteFileCall{Path: path})
	upload.answer(guestwire.Answer, nil)
	upload.write(append(guestwire.AppendHeader(nil, guestwire.Data, 10), "half"...))
	own := dial()
	own.call(guestwire.Quiesce, "secret", &guestv1.QuiesceRequest{})
	resp := &guestv1.QuiesceResponse{}
	own.answer(guestwire.Answer, resp)
	if resp.GetFrozen() != 3 {
		t.Errorf("%v", resp)
	}
	if slices.Contains(g.platform.Steps(), "sync") {
		t.Error("the disk was written back though nobody asked")
	}
	exec.refused("guest_sealed")
	upload.refused("guest_sealed")
	upload.closed()
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestBrokenUploadLeavesNothing: the connection ends in the midst of the data.
func TestBrokenUploadLeavesNothing(t *testing.T) {
	g := newGuest(t)
	dial := g.openChannel()
	dir := t.TempDir()
	w := dial()
	w.call(guestwire.WriteFile, "secret", &guestv1.WriteFileCall{Path: filepath.Join(dir, "file")})
	w.answer(guestwire.Answer, nil)
	w.write(append(guestwire.AppendHeader(nil, guestwire.Data, 4), "whole"[:4]...))
	if err := w.conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	w.closed()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestLargeFilesGoBothWays covers data that the kernel moves without copying it
// through this process.
func TestLargeFilesGoBothWays(t *testing.T) {
	g := newGuest(t)
	w, path := g.openChannel()(), filepath.Join(t.TempDir(), "file")
	content := bytes.Repeat([]byte("0123456789abcdef"), 3<<16+5)
	for range 2 { // on one connection: nothing of the first is left in it
		w.call(guestwire.WriteFile, "secret", &guestv1.WriteFileCall{Path: path})
		w.answer(guestwire.Answer, nil)
		for piece := range slices.Chunk(content, 777_777) {
			w.write(append(guestwire.AppendHeader(nil, guestwire.Data, len(piece)), piece...))
		}
		w.write(guestwire.AppendHeader(nil, guestwire.End, 0))
		w.answer(guestwire.Answer, nil)
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		w.call(guestwire.ReadFile, "secret", &guestv1.ReadFileCall{Path: path})
		info := &guestv1.FileInfo{}
		w.answer(guestwire.Answer, info)
		if info.GetSize() != int64(len(content)) {
			t.Fatalf("size %d", info.GetSize())
		}
		var got []byte
		for {
			typ, piece, err := w.Frame(guestwire.MaxData)
			if err != nil {
				t.Fatal(err)
			}
			if typ == guestwire.End {
				break
			}
			got = append(got, piece...)
		}
		if !bytes.Equal(got, content) {
			t.Fatalf("%d bytes came back", len(got))
		}
	}
}

// TestCallsMayFollowAtOnce: a next call that is sent before the command's end
// was read is answered after it.
func TestCallsMayFollowAtOnce(t *testing.T) {
	g := newGuest(t)
	w := g.openChannel()()
	w.call(guestwire.Exec, "secret", &guestv1.ExecCall{Start: &pb.StartRequest{Process: &pb.ProcessConfig{Cmd: "sleep", Args: []string{"0.05"}}}})
	w.call(guestwire.Ping, "", nil)
	for {
		event := &pb.ProcessEvent{}
		w.answer(guestwire.Event, event)
		if event.GetEnd() != nil {
			break
		}
	}
	w.answer(guestwire.Answer, nil)
}

// TestChannelEndsWithItsContext: a call under way does not hold it up.
func TestChannelEndsWithItsContext(t *testing.T) {
	g := newGuest(t)
	g.openChannel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.server.Serve(ctx, listener) }()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	w := &wire{t, conn, guestwire.NewReader(conn)}
	w.call(guestwire.Exec, "secret", &guestv1.ExecCall{Start: &pb.StartRequest{Process: &pb.ProcessConfig{Cmd: "sleep", Args: []string{"1000"}}}})
	w.answer(guestwire.Event, nil)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}
