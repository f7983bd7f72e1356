package guestclient_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// expectUnresponsive fails unless err is Timeout guest_unresponsive.
func expectUnresponsive(t *testing.T, what string, err error) {
	t.Helper()
	if !fault.Is(err, fault.Timeout) || fault.ReasonOf(err) != guestclient.ReasonUnresponsive {
		t.Fatalf("%s: got %v, want timeout guest_unresponsive", what, err)
	}
}

// TestPingOfSilentGuest: a guest that takes connections and says nothing is
// unresponsive when the caller's time is over, and was not heard.
func TestPingOfSilentGuest(t *testing.T) {
	c := hostile(t, nil)
	made := c.LastHeard()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	expectUnresponsive(t, "ping", c.Ping(ctx))
	if !c.LastHeard().Equal(made) {
		t.Error("a guest that never said anything counts as heard")
	}
}

func TestPingIsHeard(t *testing.T) {
	c := newClient(t)
	before := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	if c.LastHeard().Before(before) {
		t.Error("the answer to a ping does not count as heard")
	}
}

// TestStalledTransfers: a guest that stops moving bytes ends a transfer, also
// where it was moving them before.
func TestStalledTransfers(t *testing.T) {
	info := guestwire.AppendFrame(nil, guestwire.Answer, func(b []byte) []byte {
		return guestwire.AppendFileInfo(b, &guestv1.FileInfo{Size: 100})
	})
	someData := append(bytes.Clone(info), frame(guestwire.Data, "some")...)
	read := func(c *guestclient.Client) error {
		f, err := c.ReadFile(t.Context(), guestclient.ReadFile{Path: "/x"})
		if err != nil {
			return err
		}
		defer f.Body.Close()
		_, err = io.Copy(io.Discard, f.Body)
		return err
	}
	write := func(c *guestclient.Client) error {
		_, err := c.WriteFile(t.Context(), guestclient.WriteFile{Path: "/x"}, endless{})
		return err
	}
	for _, test := range []struct {
		name   string
		answer []byte
		do     func(*guestclient.Client) error
	}{
		{"read is never answered", nil, read},
		{"read stops in the middle", someData, read},
		{"write is never answered", nil, write},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := hostile(t, test.answer)
			c.SetStallLimit(100 * time.Millisecond)
			expectUnresponsive(t, test.name, test.do(c))
		})
	}
	t.Run("write stops in the middle", func(t *testing.T) {
		c := deaf(t, frame(guestwire.Answer, ""))
		c.SetStallLimit(100 * time.Millisecond)
		expectUnresponsive(t, "write", write(c))
	})
}

// endless is content without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestSlowCallerIsNoStall: only the guest's part of a transfer has the limit.
func TestSlowCallerIsNoStall(t *testing.T) {
	c := newClient(t)
	c.SetStallLimit(50 * time.Millisecond)
	path := t.TempDir() + "/slow"
	reader, writer := io.Pipe()
	pieces := time.NewTicker(100 * time.Millisecond)
	defer pieces.Stop()
	go func() {
		for range 3 {
			<-pieces.C
			_, _ = io.WriteString(writer, "piece")
		}
		_ = writer.Close()
	}()
	n, err := c.WriteFile(t.Context(), guestclient.WriteFile{Path: path}, reader)
	if err != nil || n != 15 {
		t.Fatalf("slow upload: wrote %d bytes, %v; want 15", n, err)
	}
	f, err := c.ReadFile(t.Context(), guestclient.ReadFile{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Body.Close()
	<-pieces.C
	if got, err := io.ReadAll(f.Body); err != nil || len(got) != 15 {
		t.Fatalf("slow download: read %d bytes, %v; want 15", len(got), err)
	}
	// The connection is good for calls that may take longer than the limit.
	if err := startAndWait(t, c, 0); err != nil {
		t.Fatalf("a command after a transfer: %v", err)
	}
}

// startAndWait starts a command with timeout and returns how its stream ends.
func startAndWait(t *testing.T, c *guestclient.Client, timeout time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stdin := false
	s, err := c.Start(ctx, &process.StartRequest{
		Process: &process.ProcessConfig{Cmd: "sleep", Args: []string{"0.2"}}, Stdin: &stdin,
	}, guestclient.StartOptions{Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for {
		if _, err := s.Receive(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// TestClaimedExecTimeout: the host's clock decides whether a guest may say that
// a command outlived its timeout.
func TestClaimedExecTimeout(t *testing.T) {
	claim := failure("timeout", "exec_timeout", "too slow")
	for _, test := range []struct {
		name    string
		timeout time.Duration
		kind    fault.Kind
		reason  string
	}{
		{"early", time.Hour, fault.HostFailed, "guest_failed"},
		{"without a timeout", 0, fault.HostFailed, "guest_failed"},
		{"when it has passed", time.Nanosecond, fault.Timeout, "exec_timeout"},
	} {
		if err := startAndWait(t, hostile(t, claim), test.timeout); !fault.Is(err, test.kind) || fault.ReasonOf(err) != test.reason {
			t.Errorf("a guest claims exec_timeout %s: got %v, want %s %s", test.name, err, test.kind, test.reason)
		}
	}
	if _, err := hostile(t, claim).ReadFile(t.Context(), guestclient.ReadFile{Path: "/x"}); fault.ReasonOf(err) != "guest_failed" {
		t.Errorf("a guest claims exec_timeout of a transfer: got %v, want guest_failed", err)
	}
}
