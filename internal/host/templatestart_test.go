package host

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/agent"
	"github.com/wrenn-dev/wrenn/internal/guest/agent/agenttest"
	"github.com/wrenn-dev/wrenn/internal/guest/channel"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/host/image"
)

// startGuest returns a client of a guest's agent that runs commands on this machine.
func startGuest(t *testing.T) *guestclient.Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := agent.New(agent.Config{Platform: agenttest.NewPlatform(nil), Log: slog.New(slog.DiscardHandler), Version: "test"})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- channel.New(a).Serve(ctx, listener) }()
	c := guestclient.New(func(ctx context.Context, _ uint16) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
	})
	t.Cleanup(func() {
		c.Close()
		cancel()
		grace, stop := context.WithTimeout(context.Background(), time.Minute)
		defer stop()
		if err := errors.Join(<-done, a.Close(grace)); err != nil {
			t.Error(err)
		}
	})
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Configure(t.Context(), &guestv1.ConfigureRequest{
		SandboxId: "a", Entropy: make([]byte, 32), AccessToken: "t", DefaultUser: me.Username,
		Envs: map[string]string{"HOME": t.TempDir()}, // login shells read no settings of this user
	})
	if err != nil {
		t.Fatal(err)
	}
	c.SetToken("t")
	return c
}

func TestTemplateStart(t *testing.T) {
	dir := t.TempDir()
	mark := filepath.Join(dir, "mark")
	cases := map[string]struct {
		start image.Start
		// says is a part of the error; empty means success.
		says []string
	}{
		"nothing to start":        {start: image.Start{}},
		"without a ready command": {start: image.Start{Command: "sleep 1000"}},
		"ready after some tries": {start: image.Start{
			Command: "n=0; while sleep 0.1; do n=$((n+1)); [ $n -lt 8 ] || touch " + mark + "; done", Ready: "test -e " + mark, Dir: dir,
		}},
		"a start command that ends with 0": {start: image.Start{Command: "touch " + mark + "2", Ready: "sleep 0.2; test -e " + mark + "2"}},
		"a start command that fails": {
			start: image.Start{Command: "echo first; echo \"cannot bind\" >&2; exit 3", Ready: "false"},
			says:  []string{"cannot bind", "ended before it was ready", "template t"},
		},
		"never ready": {
			start: image.Start{Command: "yes | head -c 100000; echo the end; sleep 1000", Ready: "false", ReadySec: 1},
			says:  []string{"was not ready in time", "the end"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			guest := startGuest(t)
			err := newTemplateStart(c.start, "t", guest).run(t.Context())
			if len(c.says) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if fault.ReasonOf(err) != "template_start_failed" || !fault.Is(err, fault.HostFailed) {
				t.Fatalf("got %v, want template_start_failed", err)
			}
			public := fault.As(err).Public
			for _, part := range c.says {
				if !strings.Contains(public, part) {
					t.Errorf("%q does not say %q", public, part)
				}
			}
			if len(public) > 3*startTail {
				t.Errorf("the message has %d bytes", len(public))
			}
		})
	}
}

// TestTemplateStartLives: the started process is in the list of processes and continues.
func TestTemplateStartLives(t *testing.T) {
	guest := startGuest(t)
	s := newTemplateStart(image.Start{Command: "sleep 1000"}, "t", guest)
	if err := s.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	record, err := s.record(t.Context(), 0)
	if err != nil || record.GetEndedUnixNano() != 0 || record.GetId() != startID {
		t.Errorf("got %v, %v, want a running process", record, err)
	}
}
