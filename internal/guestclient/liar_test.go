package guestclient_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

// calls makes every kind of call to a client, each to its end.
var calls = map[string]func(context.Context, *guestclient.Client) error{
	"configure": func(ctx context.Context, c *guestclient.Client) error {
		_, err := c.Configure(ctx, &guestv1.ConfigureRequest{})
		return err
	},
	"quiesce":      func(ctx context.Context, c *guestclient.Client) error { _, err := c.Quiesce(ctx); return err },
	"hold":         func(ctx context.Context, c *guestclient.Client) error { return c.Hold(ctx) },
	"hold to disk": func(ctx context.Context, c *guestclient.Client) error { _, err := c.HoldToDisk(ctx); return err },
	"release":      func(ctx context.Context, c *guestclient.Client) error { _, err := c.Release(ctx, 0); return err },
	"kill":         func(ctx context.Context, c *guestclient.Client) error { return c.Kill(ctx, 7) },
	"outcome":      func(ctx context.Context, c *guestclient.Client) error { _, err := c.Outcome(ctx, 7); return err },
	"input": func(ctx context.Context, c *guestclient.Client) error {
		return c.Input(ctx, 7, strings.NewReader("some input"))
	},
	"exec": func(ctx context.Context, c *guestclient.Client) error {
		s, err := c.Start(ctx, shell("true"), guestclient.StartOptions{})
		if err != nil {
			return err
		}
		defer s.Close()
		for {
			if _, err := s.Receive(); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	},
	"write": func(ctx context.Context, c *guestclient.Client) error {
		_, err := c.WriteFile(ctx, guestclient.WriteFile{Path: "/x"}, strings.NewReader("content"))
		return err
	},
	"read": func(ctx context.Context, c *guestclient.Client) error {
		f, err := c.ReadFile(ctx, guestclient.ReadFile{Path: "/x"})
		if err != nil {
			return err
		}
		defer f.Body.Close()
		_, err = io.Copy(io.Discard, f.Body)
		return err
	},
}

func event(e *process.ProcessEvent) []byte {
	return guestwire.AppendFrame(nil, guestwire.Event, func(b []byte) []byte { return guestwire.AppendEvent(b, e) })
}

func outputEvent(b []byte) []byte {
	return event(&process.ProcessEvent{Event: &process.ProcessEvent_Data{Data: &process.ProcessEvent_DataEvent{
		Output: &process.ProcessEvent_DataEvent_Stdout{Stdout: b}}}})
}

func endEvent(status string) []byte {
	return event(&process.ProcessEvent{Event: &process.ProcessEvent_End{End: &process.ProcessEvent_EndEvent{Exited: true, Status: status, Error: &status}}})
}

var (
	startEvent = event(&process.ProcessEvent{Event: &process.ProcessEvent_Start{Start: &process.ProcessEvent_StartEvent{Pid: 7}}})
	keepalive  = event(&process.ProcessEvent{Event: &process.ProcessEvent_Keepalive{Keepalive: &process.ProcessEvent_KeepAlive{}}})
)

// untilClosed writes b again and again until the host hangs up.
func untilClosed(b []byte) func(net.Conn) {
	return func(conn net.Conn) {
		for {
			if _, err := conn.Write(b); err != nil {
				return
			}
		}
	}
}

// TestGuestThatBreaksOff: a guest that closes the connection after any part of its
// answer fails the call as unreachable, and no part is taken for all of it.
func TestGuestThatBreaksOff(t *testing.T) {
	whole := bytes.Join([][]byte{startEvent, keepalive, outputEvent([]byte("out")), endEvent("exit status 0")}, nil)
	for cut := range len(whole) {
		c := answering(t, whole[:cut], func(net.Conn) {})
		if err := calls["exec"](t.Context(), c); fault.ReasonOf(err) != guestclient.ReasonUnreachable {
			t.Errorf("exec with %d of %d bytes of the events: got %v, want %s", cut, len(whole), err, guestclient.ReasonUnreachable)
		}
	}
	for name, call := range calls {
		if name == "configure" || name == "outcome" { // these try again until their context ends
			continue
		}
		if err := call(t.Context(), answering(t, nil, func(net.Conn) {})); fault.ReasonOf(err) != guestclient.ReasonUnreachable {
			t.Errorf("%s of a guest that hangs up: got %v, want %s", name, err, guestclient.ReasonUnreachable)
		}
	}
}

// TestGuestThatFloods: an endless stream of events without content ends the call;
// the host does not read it until the command's timeout.
func TestGuestThatFloods(t *testing.T) {
	for name, b := range map[string][]byte{
		"keepalives":   keepalive,
		"empty events": frame(guestwire.Event, ""),
		"empty output": outputEvent(nil),
		"unknown events": guestwire.AppendFrame(nil, guestwire.Event, func(b []byte) []byte {
			return protowire.AppendBytes(protowire.AppendTag(b, 99, protowire.BytesType), []byte("x"))
		}),
	} {
		c := answering(t, startEvent, untilClosed(bytes.Repeat(b, 100)))
		if err := calls["exec"](t.Context(), c); !fault.Is(err, fault.HostFailed) {
			t.Errorf("exec with a flood of %s: got %v, want HostFailed", name, err)
		}
	}
}

// TestHonestKeepalivesAreNoFlood: as many as a guest may send at once do no harm.
func TestHonestKeepalivesAreNoFlood(t *testing.T) {
	c := hostile(t, bytes.Join([][]byte{startEvent, bytes.Repeat(keepalive, 100), endEvent("exit status 0")}, nil))
	if err := calls["exec"](t.Context(), c); err != nil {
		t.Errorf("exec with 100 keepalives: got %v, want success", err)
	}
}

// TestEventsArePlain: the host passes on no field that it does not know, and no text
// that steers a terminal.
func TestEventsArePlain(t *testing.T) {
	end := endEvent("signal: \x1b[2J\u202ekilled\n" + strings.Repeat("x", 100_000))
	extra := protowire.AppendBytes(protowire.AppendTag(nil, 99, protowire.BytesType), make([]byte, 1000))
	end = append(end, extra...)
	binary.BigEndian.PutUint32(end[1:], uint32(len(end)-guestwire.HeaderBytes))
	s, err := hostile(t, append(bytes.Clone(startEvent), end...)).Start(t.Context(), shell("true"), guestclient.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Receive(); err != nil {
		t.Fatal(err)
	}
	got, err := s.Receive()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{got.GetEnd().GetStatus(), got.GetEnd().GetError()} {
		if len(text) > 1024 || strings.ContainsFunc(text, untrusted.Steers) || !strings.HasPrefix(text, "signal: ") {
			t.Errorf("the text of an end event: got %.80q (%d bytes), want one short plain line", text, len(text))
		}
	}
	if n := len(got.ProtoReflect().GetUnknown()); n != 0 {
		t.Errorf("the end event carries %d bytes of unknown fields, want none", n)
	}
}

// TestSlowGuest: a guest that sends one byte at a time holds a call no longer than
// its context.
func TestSlowGuest(t *testing.T) {
	trickle := func(conn net.Conn) {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for _, b := range guestwire.AppendHeader(nil, guestwire.Answer, 1<<20) {
			if _, err := conn.Write([]byte{b}); err != nil {
				return
			}
		}
		for range tick.C {
			if _, err := conn.Write([]byte{0}); err != nil {
				return
			}
		}
	}
	for name, call := range calls {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if err := call(ctx, answering(t, nil, trickle)); !fault.Is(err, fault.Timeout) && !fault.Is(err, fault.HostFailed) {
			t.Errorf("%s of a guest that sends a byte at a time: got %v, want Timeout, or HostFailed for a wrong frame", name, err)
		}
		cancel()
	}
}

// TestAnnouncedSizesCostNothing: a frame's announced size is no memory, and too
// large a frame is refused at its header.
func TestAnnouncedSizesCostNothing(t *testing.T) {
	const announced = 1 << 20 // the largest frame that the client reads
	var clients []*guestclient.Client
	for range 64 {
		clients = append(clients, hostile(t, guestwire.AppendHeader(nil, guestwire.Answer, announced)))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, c := range clients {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_ = calls["kill"](ctx, c)
		cancel()
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > uint64(len(clients))*announced/4 {
		t.Errorf("%d frames of which only the header came: allocated %d bytes, want much less than was announced", len(clients), grown)
	}
}

// TestGuestThatLies plays random frames, of every type and of mutated honest
// answers, against every call. Each ends with success or a fault that is fit to be
// shown, before the test's patience does.
func TestGuestThatLies(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 60 {
		lies := randomFrames(random)
		for name, call := range calls {
			limit, retries := patience, name == "configure" || name == "outcome"
			if retries { // until the context ends
				limit = 20 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			err := call(ctx, answering(t, lies, func(net.Conn) {}))
			if ctx.Err() != nil && !retries {
				t.Errorf("seed %d: %s did not end with the connection", seed, name)
			}
			cancel()
			if f := fault.As(err); f != nil && (f.Public == "" || len(f.Public) > 1024 || strings.ContainsFunc(f.Public, untrusted.Steers)) {
				t.Errorf("seed %d: %s: the text %q is not fit to be shown", seed, name, f.Public)
			}
		}
	}
}

// randomFrames returns some frames whose payload is random bytes, or an honest
// answer with a few bytes changed.
func randomFrames(random *rand.Rand) (b []byte) {
	types := []guestwire.Type{guestwire.Answer, guestwire.Answer, guestwire.Failure, guestwire.Event, guestwire.Event, guestwire.Data, guestwire.End, guestwire.Ping, 0xff}
	honest := [][]byte{startEvent, keepalive, outputEvent([]byte("out")), endEvent("exit status 1"), failure("not_found", "file_not_found", "there is no file")}
	for range 1 + random.IntN(4) {
		one := bytes.Clone(honest[random.IntN(len(honest))])
		if random.IntN(2) == 0 {
			payload := make([]byte, random.IntN(64))
			for i := range payload {
				payload[i] = byte(random.Uint32())
			}
			one = frame(types[random.IntN(len(types))], string(payload))
		}
		for range random.IntN(3) {
			one[random.IntN(len(one))] ^= byte(1 << random.IntN(8))
		}
		b = append(b, one...)
	}
	return b
}
