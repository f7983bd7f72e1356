package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// TestSilentGuests tests that a sandbox whose guest does not answer has not
// ended.
func TestSilentGuests(t *testing.T) {
	t.Parallel()
	s := startUp(t)
	t.Run("stopped VMM", func(t *testing.T) { testStoppedVMM(t, s) })
	t.Run("stopped agent", func(t *testing.T) { testStoppedAgent(t, s) })
	wantAgreement(t, s.Client, s.dir)
}

// awaitHealth returns the sandbox once its guest's health is state.
func awaitHealth(t *testing.T, s *server, id, state string) *client.Sandbox {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		sb, err := s.Get(t.Context(), id)
		check(t, err)
		if sb.Health != nil && sb.Health.State == state {
			return sb
		}
		if time.Now().After(deadline) {
			t.Fatalf("sandbox %s is %s with health %+v, want %s", id, sb.Status, sb.Health, state)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// env is the environment of a CLI that uses s.
func env(s *server) []string { return []string{"WRENN_URL=" + s.BaseURL, "WRENN_API_KEY=" + s.APIKey} }

// testStoppedVMM checks that no failure while the VMM process is stopped harms
// the sandbox, and that it works when the process continues.
func testStoppedVMM(t *testing.T, s *server) {
	sb := create(t, s.Client, small)
	sh(t, s.Client, sb.ID, "echo kept >/dev/shm/kept")
	pid := vmOf(s.dir, sb.ID)
	check(t, syscall.Kill(pid, syscall.SIGSTOP))
	_, err := s.Pause(t.Context(), sb.ID)
	wantFailure(t, err, 503, "guest_unresponsive")
	_, err = s.CreateSnapshot(t.Context(), sb.ID, client.SnapshotRequest{})
	wantFailure(t, err, 503, "guest_unresponsive")
	_, err = s.Fork(t.Context(), sb.ID, client.ForkRequest{})
	wantFailure(t, err, 503, "guest_unresponsive")
	_, err = s.ForcePause(t.Context(), sb.ID)
	wantFailure(t, err, 503, "vmm_unresponsive")
	if got := awaitHealth(t, s, sb.ID, client.HealthUnresponsive); got.Status != client.StatusRunning || got.Health.Since == nil {
		t.Fatalf("it is %s with health %+v, want running, unresponsive since a time", got.Status, got.Health)
	}
	out, _, err := wrenn(t, env(s), "ls")
	if err != nil || !strings.Contains(out, "running, unresponsive") {
		t.Fatalf("wrenn ls: %v\n%s", err, out)
	}
	check(t, syscall.Kill(pid, syscall.SIGCONT))
	awaitHealth(t, s, sb.ID, client.HealthOK)
	if got := sh(t, s.Client, sb.ID, "cat /dev/shm/kept"); strings.TrimSpace(got) != "kept" {
		t.Fatalf("its memory holds %q, want kept", got)
	}
	check(t, s.Destroy(t.Context(), sb.ID))
}

// testStoppedAgent checks that a command in flight ends with an unknown
// outcome, that force pauses the sandbox and sets health.forced, and that a
// fork of it fails.
func testStoppedAgent(t *testing.T, s *server) {
	sb := create(t, s.Client, small)
	result := make(chan error, 1)
	go func() {
		_, err := s.Exec(t.Context(), sb.ID, client.ExecRequest{Cmd: "/bin/sh", Args: []string{"-c",
			`kill -STOP $(pidof wrenn-guest | tr ' ' '\n' | grep -vx 1); sleep 600`}, Timeout: 10 * time.Minute})
		result <- err
	}()
	awaitHealth(t, s, sb.ID, client.HealthUnresponsive)
	wantFailure(t, <-result, 504, "guest_unresponsive")
	if got, err := s.Get(t.Context(), sb.ID); err != nil || got.Status != client.StatusRunning {
		t.Fatalf("after a command that was cut it is %+v, %v; want running", got, err)
	}
	_, err := s.Fork(t.Context(), sb.ID, client.ForkRequest{Force: true})
	wantFailure(t, err, 503, "guest_unresponsive")
	_, diag, err := wrenn(t, env(s), "pause", "--force", sb.ID)
	if err != nil {
		t.Fatalf("wrenn pause --force: %v\n%s", err, diag)
	}
	got, err := s.Get(t.Context(), sb.ID)
	check(t, err)
	if got.Status != client.StatusPaused || got.Health == nil || !got.Health.Forced {
		t.Fatalf("paused by force it is %s with health %+v", got.Status, got.Health)
	}
	got, err = s.Resume(t.Context(), sb.ID)
	check(t, err)
	if got.Status != client.StatusRunning || got.Health == nil || got.Health.State != client.HealthUnresponsive {
		t.Fatalf("resumed with a silent guest it is %s with health %+v", got.Status, got.Health)
	}
	_, err = s.Exec(t.Context(), sb.ID, client.ExecRequest{Cmd: "true"})
	wantFailure(t, err, 503, "guest_unresponsive")
	check(t, s.Destroy(t.Context(), sb.ID))
}
