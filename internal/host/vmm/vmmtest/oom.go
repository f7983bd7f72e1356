package vmmtest

import (
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
)

// Hog is a shell command that takes memory until it is ended.
const Hog = `python3 -c '
held = []
while True: held.append(b"x" * (1 << 20))
'`

// End runs a script in the guest as root and returns how it ended.
func (c *Client) End(t testing.TB, script string) *process.ProcessEvent_EndEvent {
	t.Helper()
	stdin := false
	stream, err := c.Start(t.Context(), &process.StartRequest{
		Process: &process.ProcessConfig{Cmd: "/bin/sh", Args: []string{"-c", script}}, Stdin: &stdin,
	}, guestclient.StartOptions{Timeout: 10 * c.exec})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for {
		event, err := stream.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if end := event.GetEnd(); end != nil {
			return end
		}
	}
}

// OutOfMemory checks that a command that takes all memory of the guest is ended and
// that the answer says so, while another command goes on.
func (c *Client) OutOfMemory(t *testing.T) {
	t.Helper()
	before, err := c.Count(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	end := c.End(t, Hog)
	if killed := end.GetStatus() == "signal: killed" || end.GetExitCode() == 137; !killed || !end.GetOom() || !strings.Contains(end.GetError(), "memory") {
		t.Errorf("a command that takes all memory ended with %v, want killed for lack of memory", end)
	}
	if end := c.End(t, "kill -9 $$"); end.GetOom() || end.GetStatus() != "signal: killed" {
		t.Errorf("a command that killed itself ended with %v, want no lack of memory", end)
	}
	for after := before; after <= before; {
		if after, err = c.Count(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
