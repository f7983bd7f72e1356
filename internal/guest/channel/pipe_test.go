package channel

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	pb "github.com/wrenn-dev/wrenn/api/gen/process"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/guest/agent"
	"github.com/wrenn-dev/wrenn/internal/guest/agent/agenttest"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// TestAgentServesAPipe runs the whole agent as a fake VM does: in this process,
// with accounts of its own, over a connection that is no socket. An agent on the
// saved settings, like one from a memory snapshot, is open with the same token.
func TestAgentServesAPipe(t *testing.T) {
	root, err := agenttest.Root(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	platform := agenttest.NewPlatform(nil)
	w := pipeTo(t, platform, root)
	g := &guest{t: t, user: "user"}
	w.call(guestwire.Configure, "", g.request())
	w.answer(guestwire.Answer, nil)
	path := filepath.Join(root, "made")
	w.run(path)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("a command as user: %v, want a file", err)
	}
	w = pipeTo(t, agenttest.NewPlatform(platform.Settings()), root)
	w.run(path + "-again")
}

// run runs a command that makes the file path.
func (w *wire) run(path string) {
	w.t.Helper()
	w.call(guestwire.Exec, "secret", &guestv1.ExecCall{Start: &pb.StartRequest{Process: &pb.ProcessConfig{Cmd: "touch", Args: []string{path}}}})
	event := &pb.ProcessEvent{}
	for w.answer(guestwire.Event, event); event.GetEnd() == nil; w.answer(guestwire.Event, event) {
	}
	if event.GetEnd().GetExitCode() != 0 {
		w.t.Fatalf("touch: got %v, want exit code 0", event.GetEnd())
	}
}

// pipeTo returns a connection to a new agent on platform.
func pipeTo(t *testing.T, platform agent.Platform, root string) *wire {
	t.Helper()
	a := agent.New(agent.Config{Platform: platform, Root: root, Log: slog.New(slog.DiscardHandler), Version: "test"})
	host, guest := net.Pipe()
	served := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { defer close(served); New(a).ServeConn(ctx, guest) }()
	t.Cleanup(func() {
		cancel()
		<-served
		grace, stop := context.WithTimeout(context.Background(), testPatience)
		defer stop()
		if err := a.Close(grace); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	_ = host.SetDeadline(time.Now().Add(testPatience))
	return &wire{t, host, guestwire.NewReader(host)}
}
