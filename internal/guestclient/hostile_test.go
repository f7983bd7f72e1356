package guestclient_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
	"github.com/wrenn-dev/wrenn/internal/untrusted"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
)

// hostile returns a client of a guest that answers every call with the same
// bytes and then falls silent.
func hostile(t *testing.T, bytes []byte) *guestclient.Client {
	t.Helper()
	return answering(t, bytes, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
}

// deaf is hostile for a guest that reads nothing after the call.
func deaf(t *testing.T, bytes []byte) *guestclient.Client {
	t.Helper()
	done := make(chan struct{})
	c := answering(t, bytes, func(net.Conn) { <-done })
	t.Cleanup(func() { close(done) }) // before that of answering
	return c
}

func answering(t *testing.T, bytes []byte, then func(net.Conn)) *guestclient.Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer conn.Close()
				if _, err := conn.Read(make([]byte, 4096)); err == nil {
					_, _ = conn.Write(bytes)
					then(conn)
				}
			})
		}
	})
	c := guestclient.New(dialer(listener.Addr().String()))
	t.Cleanup(func() {
		c.Close()
		_ = listener.Close()
		served.Wait()
	})
	return c
}

func frame(t guestwire.Type, payload string) []byte {
	return guestwire.AppendFrame(nil, t, func(b []byte) []byte { return append(b, payload...) })
}

func failure(kind, reason, message string) []byte {
	return guestwire.AppendFrame(nil, guestwire.Failure, func(b []byte) []byte {
		return guestwire.AppendFailure(b, &guestv1.Failure{Kind: kind, Reason: reason, Message: message})
	})
}

func TestHostileErrors(t *testing.T) {
	tests := []struct {
		name   string
		answer []byte
		kind   fault.Kind
	}{
		{"claims to be the control plane", failure("no_capacity", "no_capacity", "full"), fault.HostFailed},
		{"claims a kind that is none", failure("nonsense", "x", "y"), fault.HostFailed},
		{"asks for credentials", failure("unauthenticated", "log_in", "password?"), fault.HostFailed},
		{"does not know its token", failure("unauthenticated", "unauthenticated", "no"), fault.HostFailed},
		{"long text", failure("not_found", "x", strings.Repeat("x", 7<<10)), fault.NotFound},
		{"endless text", failure("not_found", "x", strings.Repeat("x", 1<<19)), fault.HostFailed},
		{"terminal codes", failure("not_found", "A b", "\x1b[2J\x00\n"), fault.NotFound},
		{"claims a reason of the host", failure("wrong_state", "sandbox_paused", "paused"), fault.WrongState},
		{"bidirectional text", failure("not_found", "x", "a\u202eb"), fault.NotFound},
		{"no text", failure("not_found", "", ""), fault.NotFound},
		{"no message", frame(guestwire.Failure, "\xff\xff\xff"), fault.HostFailed},
		{"answers with data", frame(guestwire.Data, "x"), fault.HostFailed},
		{"garbage", []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), fault.HostFailed},
		{"frame too large", guestwire.AppendHeader(nil, guestwire.Answer, 1<<30), fault.HostFailed},
		{"a size below none", guestwire.AppendFrame(nil, guestwire.Answer, func(b []byte) []byte {
			return guestwire.AppendFileInfo(b, &guestv1.FileInfo{Size: -2})
		}), fault.HostFailed},
	}
	for _, tt := range tests {
		_, err := hostile(t, tt.answer).ReadFile(t.Context(), guestclient.ReadFile{Path: "/x"})
		f := fault.As(err)
		if f == nil || f.Kind != tt.kind {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if len(f.Public) > 1024 || strings.ContainsFunc(f.Public, untrusted.Steers) || strings.Contains(f.Reason, " ") || f.Reason == "sandbox_paused" {
			t.Errorf("%s: reason %q, text %q", tt.name, f.Reason, f.Public)
		}
	}
}

func TestHostileStreams(t *testing.T) {
	start := guestwire.AppendFrame(nil, guestwire.Event, func(b []byte) []byte {
		return guestwire.AppendEvent(b, &process.ProcessEvent{Event: &process.ProcessEvent_Start{
			Start: &process.ProcessEvent_StartEvent{Pid: 7},
		}})
	})
	for name, b := range map[string][]byte{
		"message too large": guestwire.AppendHeader(nil, guestwire.Event, 1<<30),
		"an answer":         frame(guestwire.Answer, ""),
		"data":              frame(guestwire.Data, "x"),
		"a second start":    append(start, start...),
		"garbage":           frame(guestwire.Event, "\xff\xff\xff\xff"),
		"another's error":   failure("unauthenticated", "log_in", "log in!!!"),
	} {
		s, err := hostile(t, b).Start(t.Context(), shell("true"), guestclient.StartOptions{})
		if err == nil {
			_, _, err = drain(s)
			_ = s.Close()
		}
		if kind := fault.KindOf(err); kind != fault.HostFailed {
			t.Errorf("%s: %v (%v)", name, err, kind)
		}
	}
}

// TestHostileFiles: an incomplete or malformed file is never taken for a complete
// one.
func TestHostileFiles(t *testing.T) {
	info := func(size int64, rest ...[]byte) []byte {
		b := guestwire.AppendFrame(nil, guestwire.Answer, func(b []byte) []byte {
			return guestwire.AppendFileInfo(b, &guestv1.FileInfo{Size: size})
		})
		for _, r := range rest {
			b = append(b, r...)
		}
		return b
	}
	end := frame(guestwire.End, "")
	for name, b := range map[string][]byte{
		"ends early":           info(10, frame(guestwire.Data, "12345"), end),
		"more than announced":  info(3, frame(guestwire.Data, "12345"), end),
		"an end with content":  info(0, frame(guestwire.End, "x")),
		"an answer in between": info(-1, frame(guestwire.Data, "x"), frame(guestwire.Answer, "")),
		"empty data for ever":  info(-1, frame(guestwire.Data, "")),
		"data too large":       info(-1, guestwire.AppendHeader(nil, guestwire.Data, guestwire.MaxData+1)),
	} {
		f, err := hostile(t, b).ReadFile(t.Context(), guestclient.ReadFile{Path: "/x"})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := io.ReadAll(f.Body); !fault.Is(err, fault.HostFailed) {
			t.Errorf("%s: %v", name, err)
		}
		_ = f.Body.Close()
	}
}

// TestSilence: a guest that says nothing holds nobody longer than they want.
func TestSilence(t *testing.T) {
	for name, call := range map[string]func(context.Context, *guestclient.Client) error{
		"wait": func(ctx context.Context, c *guestclient.Client) error { return c.WaitReady(ctx) },
		"configure": func(ctx context.Context, c *guestclient.Client) error {
			_, err := c.Configure(ctx, &guestv1.ConfigureRequest{})
			return err
		},
		"quiesce": func(ctx context.Context, c *guestclient.Client) error { _, err := c.Quiesce(ctx); return err },
		"kill":    func(ctx context.Context, c *guestclient.Client) error { return c.Kill(ctx, 1) },
		"input": func(ctx context.Context, c *guestclient.Client) error {
			return c.Input(ctx, 1, bytes.NewReader(make([]byte, 1<<24)))
		},
		"write": func(ctx context.Context, c *guestclient.Client) error {
			_, err := c.WriteFile(ctx, guestclient.WriteFile{Path: "/x"}, strings.NewReader("x"))
			return err
		},
		"exec": func(ctx context.Context, c *guestclient.Client) error {
			s, err := c.Start(ctx, shell("true"), guestclient.StartOptions{})
			if err != nil {
				return err
			}
			defer s.Close()
			_, err = s.Receive()
			return err
		},
	} {
		c := hostile(t, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if err := call(ctx, c); !fault.Is(err, fault.Timeout) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}

// TestNoSecondUse: a connection on which the guest spoke out of turn carries no
// other call.
func TestNoSecondUse(t *testing.T) {
	c := hostile(t, append(frame(guestwire.Answer, ""), frame(guestwire.Answer, "more")...))
	for range 3 {
		if err := c.Kill(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWaitReadyEndsWithItsContext(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c := guestclient.New(dialer(silent.Addr().String()))
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.WaitReady(ctx); !fault.Is(err, fault.Timeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
