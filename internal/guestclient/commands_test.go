package guestclient_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	guestprocess "github.com/wrenn-dev/wrenn/internal/guest/process"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
)

// listing lists processes, with or without commands that have no id.
func listing(commands bool) *guestv1.ProcessCall {
	list := &guestv1.ListProcesses{Commands: commands}
	return &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_List{List: list}}
}

// execute runs a command without an id to its end.
func execute(t *testing.T, c *guestclient.Client, script string, unrecorded bool) {
	t.Helper()
	s, err := c.Start(t.Context(), shell(script), guestclient.StartOptions{Unrecorded: unrecorded})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, _, err := drain(s); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// listed returns the command lines of the processes and of the commands in a list.
func listed(t *testing.T, c *guestclient.Client, call *guestv1.ProcessCall) (processes, commands []string) {
	t.Helper()
	answer, err := c.CallProcess(t.Context(), call)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range answer.GetProcesses() {
		processes = append(processes, strings.Join(p.GetArgs(), " "))
	}
	for _, p := range answer.GetCommands() {
		commands = append(commands, strings.Join(p.GetArgs(), " "))
	}
	return processes, commands
}

// TestCommandsAreListedOnRequest: a list has the commands without an id if it asks for
// them, and never those that the host runs for itself. A sandbox with a new identity has
// none of the commands that ended before.
func TestCommandsAreListedOnRequest(t *testing.T) {
	c := newClient(t)
	call(t, c, starting(&guestv1.StartProcess{Id: "p1", Start: shell("exit 1")}))
	execute(t, c, "exit 2", false)
	execute(t, c, "exit 3", true)
	for _, ask := range []bool{false, true} {
		want := map[bool][]string{true: {"-c exit 2"}}[ask]
		processes, commands := listed(t, c, listing(ask))
		if !slices.Equal(processes, []string{"-c exit 1"}) || !slices.Equal(commands, want) {
			t.Errorf("commands %t: processes %q, commands %q, want %q", ask, processes, commands, want)
		}
	}
	answer, err := c.CallProcess(t.Context(), listing(true))
	if err != nil {
		t.Fatal(err)
	}
	if p := answer.GetCommands()[0]; p.GetExitCode() != 2 || p.GetEndedUnixNano() < p.GetStartedUnixNano() || p.GetUser() == "" || p.GetCmd() != "/bin/sh" {
		t.Errorf("the record of the command is %v", p)
	}
	for _, identity := range []bool{false, true} {
		req := &guestv1.ConfigureRequest{SandboxId: "b", Entropy: make([]byte, 32), AccessToken: "t", NewIdentity: identity}
		if _, err := c.Configure(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		c.SetToken("t")
		if processes, commands := listed(t, c, listing(true)); len(processes) != 1 || len(commands) == 0 != identity {
			t.Errorf("after a configuration with new identity %t: processes %q, commands %q", identity, processes, commands)
		}
	}
}

// TestListOfManyCommands: the largest records of all commands that a guest keeps, beside
// the largest of all processes, are no lie. An agent that knows no commands lists none.
func TestListOfManyCommands(t *testing.T) {
	answer := &guestv1.ProcessAnswer{}
	text, args := strings.Repeat("x", 256), slices.Repeat([]string{strings.Repeat("a", 8)}, 64)
	for range guestprocess.MaxRunning + guestprocess.MaxRecords {
		answer.Processes = append(answer.Processes, &guestv1.ProcessRecord{Id: "p", Cmd: text, Cwd: text, User: text, Args: args})
	}
	for _, count := range []int{0, guestprocess.MaxBriefs} {
		answer.Commands = nil
		for range count {
			answer.Commands = append(answer.Commands, &guestv1.ProcessRecord{Cmd: text, User: text, Args: args})
		}
		got, err := hostile(t, framed(t, guestwire.Answer, answer)).CallProcess(t.Context(), listing(true))
		if err != nil || len(got.GetProcesses()) != len(answer.GetProcesses()) || len(got.GetCommands()) != count {
			t.Errorf("%d commands: %d processes and %d commands, %v", count, len(got.GetProcesses()), len(got.GetCommands()), err)
		}
	}
}

// TestLyingGuestOfCommands: a guest that breaks the protocol of commands is found out.
func TestLyingGuestOfCommands(t *testing.T) {
	command := &guestv1.ProcessRecord{Cmd: "a"}
	for name, c := range map[string]struct {
		call   *guestv1.ProcessCall
		answer *guestv1.ProcessAnswer
	}{
		"not asked for":         {listing(false), &guestv1.ProcessAnswer{Commands: []*guestv1.ProcessRecord{command}}},
		"of one process":        {getting("p", 0), &guestv1.ProcessAnswer{Processes: []*guestv1.ProcessRecord{{Id: "p"}}, Commands: []*guestv1.ProcessRecord{command}}},
		"with an id":            {listing(true), &guestv1.ProcessAnswer{Commands: []*guestv1.ProcessRecord{{Id: "p"}}}},
		"a process without one": {listing(true), &guestv1.ProcessAnswer{Processes: []*guestv1.ProcessRecord{command}}},
		"too many":              {listing(true), &guestv1.ProcessAnswer{Commands: slices.Repeat([]*guestv1.ProcessRecord{command}, 10_000)}},
		"too large":             {listing(true), &guestv1.ProcessAnswer{Commands: []*guestv1.ProcessRecord{{Cmd: strings.Repeat("x", 3<<10)}}}},
	} {
		_, err := hostile(t, framed(t, guestwire.Answer, c.answer)).CallProcess(t.Context(), c.call)
		if fault.ReasonOf(err) != "guest_failed" {
			t.Errorf("%s: got %v, want guest_failed", name, err)
		}
	}
}

// TestQuiesceToDiskListsProcesses: a guest whose disk will be used without its memory lists
// its processes as they are when they are frozen.
func TestQuiesceToDiskListsProcesses(t *testing.T) {
	c := newClient(t)
	call(t, c, starting(&guestv1.StartProcess{Id: "ended", Start: shell("exit 3")}))
	call(t, c, getting("ended", patience))
	call(t, c, starting(&guestv1.StartProcess{Id: "runs", Start: shell("sleep 1000")}))
	execute(t, c, "exit 0", false)
	got, err := c.QuiesceToDisk(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := got.GetProcesses()
	if !got.GetListed() || len(p) != 2 || p[0].GetId() != "ended" || p[0].GetExitCode() != 3 || p[1].GetId() != "runs" || p[1].GetEndedUnixNano() != 0 {
		t.Errorf("got %v, want the process that has ended and the one that runs", got)
	}
}

// TestAnswersToQuiesce: an agent of an earlier version lists nothing, one with as many
// processes as there may be is believed, and a lying one is found out.
func TestAnswersToQuiesce(t *testing.T) {
	record := &guestv1.ProcessRecord{Id: "p", Cmd: strings.Repeat("x", 256), Args: slices.Repeat([]string{""}, 500)}
	for name, c := range map[string]struct {
		answer *guestv1.QuiesceResponse
		honest bool
	}{
		"earlier version": {&guestv1.QuiesceResponse{Frozen: 7}, true},
		"full":            {&guestv1.QuiesceResponse{Frozen: 7, Listed: true, Processes: slices.Repeat([]*guestv1.ProcessRecord{record}, guestprocess.MaxRunning+guestprocess.MaxRecords)}, true},
		"without an id":   {&guestv1.QuiesceResponse{Listed: true, Processes: []*guestv1.ProcessRecord{{Cmd: "a"}}}, false},
		"too many":        {&guestv1.QuiesceResponse{Listed: true, Processes: slices.Repeat([]*guestv1.ProcessRecord{{Id: "p"}}, 10_000)}, false},
		"too large":       {&guestv1.QuiesceResponse{Listed: true, Processes: []*guestv1.ProcessRecord{{Id: "p", Cmd: strings.Repeat("x", 3<<10)}}}, false},
	} {
		got, err := hostile(t, framed(t, guestwire.Answer, c.answer)).QuiesceToDisk(t.Context())
		if c.honest && (err != nil || len(got.GetProcesses()) != len(c.answer.GetProcesses()) || got.GetFrozen() != 7) {
			t.Errorf("%s: %d processes, %v", name, len(got.GetProcesses()), err)
		}
		if !c.honest && fault.ReasonOf(err) != "guest_failed" {
			t.Errorf("%s: got %v, want guest_failed", name, err)
		}
	}
}

// TestAnswersToHold: an agent of an earlier version answers with nothing, and has written
// nothing back.
func TestAnswersToHold(t *testing.T) {
	for _, synced := range []bool{true, false} {
		answer := &guestv1.HoldResponse{}
		if synced {
			answer = &guestv1.HoldResponse{Frozen: 7, Synced: true}
		}
		if got, err := hostile(t, framed(t, guestwire.Answer, answer)).HoldToDisk(t.Context()); err != nil || got != synced {
			t.Errorf("the answer %v: synced %t, %v, want %t", answer, got, err, synced)
		}
	}
}
