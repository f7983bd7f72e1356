package agent_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	pb "github.com/wrenn-dev/wrenn/api/gen/process"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guest/agent"
	"github.com/wrenn-dev/wrenn/internal/guest/agent/agenttest"
)

const (
	patience = 20 * time.Second
	token    = "secret"
)

// newAgent returns a sealed agent without privileges, and its platform.
func newAgent(t *testing.T) (*agent.Agent, *agenttest.Platform) {
	t.Helper()
	root, err := agenttest.Root(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	platform := agenttest.NewPlatform(nil)
	a := agent.New(agent.Config{Platform: platform, Root: root, Log: slog.New(slog.DiscardHandler), Version: "test"})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := a.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return a, platform
}

func configure(t *testing.T, a *agent.Agent, hold bool) {
	t.Helper()
	req := &guestv1.ConfigureRequest{
		WallClockUnixNano: time.Now().UnixNano(), Entropy: make([]byte, 32), DefaultUser: "user", AccessToken: token, Hold: hold,
	}
	if _, err := a.Configure(t.Context(), req, token); err != nil {
		t.Fatal(err)
	}
}

// TestAdmission: which call with which token is admitted in which state.
func TestAdmission(t *testing.T) {
	const sealed, wrong = "guest_sealed", "unauthenticated"
	states := map[string]func(*agent.Agent){
		"sealed": func(*agent.Agent) {},
		"open":   func(a *agent.Agent) { configure(t, a, false) },
		"held":   func(a *agent.Agent) { configure(t, a, true) },
	}
	for _, c := range []struct {
		state, token string
		kind         agent.CallKind
		reason       string // of the refusal; empty if the call is admitted
		epoch        bool   // admitted into an epoch
	}{
		{"sealed", token, agent.OrdinaryCall, sealed, false},
		{"sealed", "", agent.ConfigureCall, "", false},
		{"sealed", token, agent.QuiesceCall, sealed, false},
		{"sealed", "", agent.ReleaseCall, "", false}, // Release checks the token
		{"open", token, agent.OrdinaryCall, "", true},
		{"open", "", agent.OrdinaryCall, wrong, false},
		{"open", "secre", agent.OrdinaryCall, wrong, false},
		{"open", "", agent.ConfigureCall, wrong, false},
		{"open", token, agent.ConfigureCall, "", false},
		{"open", "", agent.QuiesceCall, wrong, false},
		{"held", token, agent.OrdinaryCall, sealed, false},
		{"held", "", agent.ConfigureCall, "", false},
	} {
		a, _ := newAgent(t)
		states[c.state](a)
		e, err := a.Admit(c.kind, c.token)
		if got := fault.ReasonOf(err); got != c.reason || (e != nil) != c.epoch {
			t.Errorf("call of kind %d with token %q to a %s guest: got %q, epoch %v; want %q, epoch %v", c.kind, c.token, c.state, got, e != nil, c.reason, c.epoch)
		}
		if e != nil {
			e.Leave()
		}
	}
}

// TestPublicAdmission: which request to the public server is admitted in which state.
func TestPublicAdmission(t *testing.T) {
	a, _ := newAgent(t)
	admitted := func(e *agent.Epoch, err error) string {
		if e != nil {
			e.Leave()
		}
		return fault.ReasonOf(err)
	}
	if got := admitted(a.AdmitPublic("public")); got != "guest_sealed" {
		t.Errorf("the token of a sealed guest: got %q, want guest_sealed", got)
	}
	if got := admitted(a.AdmitSigned()); got != "guest_sealed" {
		t.Errorf("a signed request to a sealed guest: got %q, want guest_sealed", got)
	}
	for given, want := range map[string]map[string]string{
		"public": {"public": "", "": "unauthenticated", token: "unauthenticated", "publi": "unauthenticated"},
		"":       {"": "unauthenticated", token: "unauthenticated"},
	} {
		a, _ := newAgent(t)
		req := &guestv1.ConfigureRequest{
			WallClockUnixNano: time.Now().UnixNano(), Entropy: make([]byte, 32), DefaultUser: "user", AccessToken: token, EnvdToken: given,
		}
		if _, err := a.Configure(t.Context(), req, ""); err != nil {
			t.Fatal(err)
		}
		for tried, reason := range want {
			if got := admitted(a.AdmitPublic(tried)); got != reason {
				t.Errorf("token %q for a guest with %q: got %q, want %q", tried, given, got, reason)
			}
		}
		if got := admitted(a.AdmitSigned()); got != "" {
			t.Errorf("a signed request to an open guest: got %q, want it admitted", got)
		}
	}
}

// TestReleaseOpensAHeldGuest: with the token of the Configure that holds, and with no
// other; then user processes run.
func TestReleaseOpensAHeldGuest(t *testing.T) {
	a, platform := newAgent(t)
	configure(t, a, true)
	if steps := platform.Steps(); slices.Contains(steps, "thaw") {
		t.Fatalf("steps of a Configure with hold: got %v, want no thaw", steps)
	}
	if _, err := a.Release(t.Context(), &guestv1.ReleaseRequest{}, "wrong"); !fault.Is(err, fault.Unauthenticated) {
		t.Fatalf("release with a wrong token: got %v, want Unauthenticated", err)
	}
	if _, err := a.Release(t.Context(), &guestv1.ReleaseRequest{ClockAdjustNano: int64(time.Second)}, token); err != nil {
		t.Fatal(err)
	}
	steps := platform.Steps()
	if last := steps[len(steps)-2:]; !slices.Equal(last, []string{"clock", "thaw"}) {
		t.Errorf("steps of the release: got %v, want the clock to be set before the thaw", last)
	}
	e, err := a.Admit(agent.OrdinaryCall, token)
	if err != nil {
		t.Fatalf("a call after the release: %v, want it admitted", err)
	}
	e.Leave()
}

// TestCommandsWaitWhileTheGuestIsHeld: no command starts between a Hold and the Release,
// or a Configure, so that nothing of it runs in a copy before that is renewed.
func TestCommandsWaitWhileTheGuestIsHeld(t *testing.T) {
	a, platform := newAgent(t)
	configure(t, a, false)
	platform.FailAt("")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	held := func() bool {
		err := a.Processes().Hold(ended) // succeeds at once if it is held already
		return err == nil
	}
	for name, end := range map[string]func(){
		"release": func() {
			if _, err := a.Release(t.Context(), &guestv1.ReleaseRequest{}, token); err != nil {
				t.Fatal(err)
			}
		},
		"configure": func() { configure(t, a, false) },
	} {
		if _, err := a.Hold(t.Context(), &guestv1.HoldRequest{}); err != nil {
			t.Fatal(err)
		}
		if !held() {
			t.Errorf("%s: commands can start after a Hold", name)
		}
		if end(); held() {
			t.Errorf("%s: commands wait after the end of the hold", name)
		}
	}
	platform.FailAt("freeze")
	if _, err := a.Hold(t.Context(), &guestv1.HoldRequest{}); err == nil || held() {
		t.Errorf("a Hold that failed: got %v and that commands wait is %v", err, held())
	}
}

// TestHoldWritesBack: file systems are written back only on request, and once nothing writes
// to them any more. The guest stays open. If it fails, processes continue.
func TestHoldWritesBack(t *testing.T) {
	a, platform := newAgent(t)
	configure(t, a, false)
	for _, c := range []struct {
		sync    bool
		failing string
		want    []string
	}{
		{false, "", []string{"freeze"}},
		{true, "", []string{"freeze", "sync"}},
		{true, "sync", []string{"freeze", "sync", "thaw"}},
	} {
		platform.FailAt(c.failing)
		resp, err := a.Hold(t.Context(), &guestv1.HoldRequest{SyncDisk: c.sync})
		if (err != nil) != (c.failing != "") || err == nil && (resp.GetSynced() != c.sync || resp.GetFrozen() != agenttest.Frozen) {
			t.Errorf("%+v: answer %v, %v", c, resp, err)
		}
		if got := platform.Steps(); !slices.Equal(got, c.want) {
			t.Errorf("%+v: steps %v", c, got)
		}
		e, err := a.Admit(agent.OrdinaryCall, token)
		if err != nil {
			t.Fatalf("%+v: a call after it: %v, want it admitted", c, err)
		}
		e.Leave()
		if c.failing != "" {
			if !startable(t, a) {
				t.Errorf("%+v: commands wait after it", c)
			}
			continue
		}
		if _, err := a.Release(t.Context(), &guestv1.ReleaseRequest{}, token); err != nil {
			t.Fatal(err)
		}
	}
}

// startable reports whether commands of the guest can start.
func startable(t *testing.T, a *agent.Agent) bool {
	t.Helper()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	return a.Processes().Hold(ended) != nil
}

// TestReleaseBoundsTheClock: a correction of more than a minute is no correction.
func TestReleaseBoundsTheClock(t *testing.T) {
	a, platform := newAgent(t)
	configure(t, a, false)
	platform.FailAt("")
	for _, adjust := range []time.Duration{0, 2 * time.Minute, -2 * time.Minute, -1 << 63} {
		if _, err := a.Release(t.Context(), &guestv1.ReleaseRequest{ClockAdjustNano: int64(adjust)}, token); err != nil {
			t.Fatal(err)
		}
	}
	if steps := platform.Steps(); slices.Contains(steps, "clock") {
		t.Errorf("steps: got %v, want no change of the clock", steps)
	}
}

// TestEpochCutsCallsOff: Quiesce ends the context of a call with ErrSealed, then
// interrupts its connection, and waits for the call.
func TestEpochCutsCallsOff(t *testing.T) {
	a, _ := newAgent(t)
	configure(t, a, false)
	e, err := a.Admit(agent.OrdinaryCall, token)
	if err != nil {
		t.Fatal(err)
	}
	interrupted := make(chan error, 1)
	var ctx context.Context
	bound := make(chan struct{})
	ctx, release := e.Bind(t.Context(), func() { <-bound; interrupted <- context.Cause(ctx) })
	close(bound)
	done := make(chan error, 1)
	go func() { _, err := a.Quiesce(context.Background(), &guestv1.QuiesceRequest{}); done <- err }()
	if cause := <-interrupted; !errors.Is(cause, agent.ErrSealed) {
		t.Errorf("the cause when the connection is interrupted: got %v, want ErrSealed", cause)
	}
	select {
	case err := <-done:
		t.Errorf("quiesce returned %v before the call had left its epoch", err)
	default:
	}
	if release() {
		t.Error("release: got true for an epoch that has ended, want false")
	}
	e.Leave()
	if err := <-done; err != nil {
		t.Errorf("quiesce: %v", err)
	}
}

// TestRun runs a command as an unprivileged user, with its output and its end.
func TestRun(t *testing.T) {
	a, _ := newAgent(t)
	configure(t, a, false)
	e, err := a.Admit(agent.OrdinaryCall, token)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Leave()
	ctx, release := e.Bind(t.Context(), func() {})
	defer release()
	var out strings.Builder
	var end *pb.ProcessEvent_EndEvent
	command := agent.Command{Keepalive: time.Minute, Request: &pb.StartRequest{Process: &pb.ProcessConfig{Cmd: "/bin/sh", Args: []string{"-c", "echo $USER; exit 3"}}}}
	err = a.Run(ctx, command, func(event *pb.ProcessEvent) error {
		out.Write(event.GetData().GetStdout())
		if event.GetEnd() != nil {
			end = event.GetEnd()
		}
		return nil
	})
	if err != nil || out.String() != "user\n" || end.GetExitCode() != 3 {
		t.Errorf("run: got %q, exit code %d, %v; want the user's name and 3", out.String(), end.GetExitCode(), err)
	}
	if err := a.Kill(4_000_000); !fault.Is(err, fault.NotFound) {
		t.Errorf("kill of no process: got %v, want NotFound", err)
	}
}

// TestDefaultUserIsGone: a guest whose default user does not exist starts, and the calls that
// name no user fail.
func TestDefaultUserIsGone(t *testing.T) {
	a, _ := newAgent(t)
	req := &guestv1.ConfigureRequest{
		WallClockUnixNano: time.Now().UnixNano(), Entropy: make([]byte, 32), DefaultUser: "no-such-user", DefaultWorkdir: "/srv", AccessToken: token,
	}
	if _, err := a.Configure(t.Context(), req, token); err != nil {
		t.Fatal(err)
	}
	epoch, err := a.Admit(agent.OrdinaryCall, token)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := epoch.Bind(t.Context(), func() {})
	defer end()
	if _, err := a.Actor(ctx, ""); fault.ReasonOf(err) != "unknown_user" {
		t.Errorf("a call without a user: %v, want unknown_user", err)
	}
	if _, err := a.Actor(ctx, "user"); err != nil {
		t.Errorf("a call of another user: %v", err)
	}
}

// TestPublishedSettings: programs of root in the guest find the digest of the public token and the
// variables, and never the token. They find nothing in a snapshot.
func TestPublishedSettings(t *testing.T) {
	a, platform := newAgent(t)
	for _, c := range []struct {
		renew     bool
		envdToken string
		envs      map[string]string
		want      string
	}{
		{false, "public", nil, ""}, // whose they are is not known
		{true, "public", map[string]string{"A": "b\n"}, `{"machine_id":"machine-1","access_token_sha256":"efa1f375d76194fa51a3556a97e641e61685f914d446979da50a551a4333ffd7","envs":{"A":"b\n"}}`},
		{false, "", nil, `{"machine_id":"machine-1","access_token_sha256":"","envs":{}}`},
		{true, "", nil, `{"machine_id":"machine-2","access_token_sha256":"","envs":{}}`},
	} {
		req := &guestv1.ConfigureRequest{
			WallClockUnixNano: time.Now().UnixNano(), Entropy: make([]byte, 32), DefaultUser: "user",
			AccessToken: token, EnvdToken: c.envdToken, Envs: c.envs, NewIdentity: c.renew,
		}
		if _, err := a.Configure(t.Context(), req, token); err != nil {
			t.Fatal(err)
		}
		if got := string(platform.Published()); got != c.want {
			t.Errorf("published with the token %q: got %s, want %s", c.envdToken, got, c.want)
		}
	}
	if _, err := a.Quiesce(t.Context(), &guestv1.QuiesceRequest{}); err != nil {
		t.Fatal(err)
	}
	if got := platform.Published(); len(got) != 0 {
		t.Errorf("published after Quiesce: got %s, want nothing", got)
	}
	// Root of the guest can make it fail, which must not keep its sandbox from a resume or a pause.
	platform.FailAt("publish")
	configure(t, a, false)
	if _, err := a.Quiesce(t.Context(), &guestv1.QuiesceRequest{}); err != nil {
		t.Errorf("quiesce: %v", err)
	}
}
