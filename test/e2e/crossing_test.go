package e2e

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// TestCrossing tests concurrent operations.
func TestCrossing(t *testing.T) {
	t.Parallel()
	s := startUp(t)
	for name, test := range map[string]func(*testing.T, *server){
		"two pauses at once":   testTwoPauses,
		"delete during create": testDeleteDuringCreate,
		"pause during exec":    testPauseDuringExec,
		"killed VMM, idle":     testVMMKilledIdle,
		"killed VMM, create":   testVMMKilledDuringCreate,
		"killed VMM, exec":     testVMMKilledDuringExec,
		"killed VMM, pause":    testVMMKilledDuringPause,
	} {
		t.Run(name, func(t *testing.T) { test(t, s) })
	}
	t.Run("twenty creates at once", func(t *testing.T) { testManyCreates(t, s) })
	wantAgreement(t, s.Client, s.dir)
}

// testManyCreates checks that concurrent creates succeed, or are refused for lack of
// capacity.
func testManyCreates(t *testing.T, s *server) {
	const many = 20
	var wg sync.WaitGroup
	boxes, errs := make([]*client.Sandbox, many), make([]error, many)
	for i := range many {
		wg.Go(func() { boxes[i], errs[i] = s.Create(t.Context(), small) })
	}
	wg.Wait()
	addresses := map[string]bool{}
	for i, sb := range boxes {
		if errs[i] != nil {
			wantFailure(t, errs[i], 503, "no_capacity")
			continue
		}
		if sb.Status != client.StatusRunning || addresses[sb.HostIP] {
			t.Errorf("%s is %s at %s", sb.ID, sb.Status, sb.HostIP)
		}
		addresses[sb.HostIP] = true
	}
	for sb, err := range s.All(t.Context(), client.ListOptions{Status: []string{"running"}}) {
		check(t, err)
		wg.Go(func() {
			if err := s.Destroy(t.Context(), sb.ID); err != nil {
				t.Errorf("destroy %s: %v", sb.ID, err)
			}
		})
	}
	wg.Wait()
}

func testTwoPauses(t *testing.T, s *server) {
	sb := create(t, s.Client, small)
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i := range errs {
		wg.Go(func() { _, errs[i] = s.Pause(t.Context(), sb.ID) })
	}
	wg.Wait()
	if errs[0] != nil {
		errs[0], errs[1] = errs[1], errs[0]
	}
	check(t, errs[0])
	wantFailure(t, errs[1], 409, "sandbox_not_running")
	_, err := s.Resume(t.Context(), sb.ID)
	check(t, err)
	sh(t, s.Client, sb.ID, "true")
}

func testDeleteDuringCreate(t *testing.T, s *server) {
	created := createMarked(t, s.Client, t.Name())
	id := pending(t, s.Client, t.Name())
	check(t, s.Destroy(t.Context(), id))
	wantFailure(t, <-created, 409, "sandbox_ended")
	wantEnd(t, s, id, "destroyed")
}

// createMarked starts the create of a sandbox that pending finds by its
// metadata.
func createMarked(t *testing.T, c *client.Client, mark string) <-chan error {
	t.Helper()
	in := small
	in.Metadata = map[string]string{"mark": mark}
	done := make(chan error, 1)
	go func() {
		// The context is not the test's, so that a failed test does not
		// interrupt the create.
		_, err := c.Create(context.Background(), in)
		done <- err
	}()
	return done
}

// pending waits until the row of createMarked exists, and returns its id.
func pending(t *testing.T, c *client.Client, mark string) (id string) {
	t.Helper()
	eventually(t, "the row of a create is there", func() bool {
		for sb, err := range c.All(t.Context(), client.ListOptions{}) {
			if err == nil && sb.Metadata["mark"] == mark {
				id = sb.ID
			}
		}
		return id != ""
	})
	return id
}

// running starts a command that counts in /tmp/n without end, and returns when
// it has started. The channel gets the error of its exec.
func running(t *testing.T, c *client.Client, id string) <-chan error {
	t.Helper()
	begun, done := make(chan struct{}), make(chan error, 1)
	var once sync.Once
	out := writerFunc(func(p []byte) (int, error) {
		once.Do(func() { close(begun) })
		return len(p), nil
	})
	go func() {
		_, err := c.ExecStream(context.Background(), id, client.ExecRequest{
			Cmd: "sh", Args: []string{"-c", strings.ReplaceAll(counter, "setsid ", "") + "; echo begun; wait"}, Timeout: time.Hour,
		}, out, out)
		done <- err
	}()
	select {
	case <-begun:
	case err := <-done:
		t.Fatalf("the command ended before it began: %v", err)
	}
	return done
}

// testPauseDuringExec checks that a pause ends the call but not the command.
func testPauseDuringExec(t *testing.T, s *server) {
	sb := create(t, s.Client, small)
	done := running(t, s.Client, sb.ID)
	_, err := s.Pause(t.Context(), sb.ID)
	check(t, err)
	if e := failure(t, <-done); e.Code != "sandbox_not_running" && e.Code != "sandbox_paused" {
		t.Errorf("the exec ended with %v", e)
	}
	_, err = s.Resume(t.Context(), sb.ID)
	check(t, err)
	goesOn(t, s.Client, sb.ID, "1")
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if pid <= 0 {
		t.Fatal("there is no process to kill")
	}
	check(t, syscall.Kill(pid, syscall.SIGKILL))
}

func testVMMKilledIdle(t *testing.T, s *server) {
	sb := create(t, s.Client, small)
	kill(t, vmOf(s.dir, sb.ID))
	wantEnd(t, s, sb.ID, "vmm_crash")
	_, err := trySh(t.Context(), s.Client, sb.ID, "true")
	wantFailure(t, err, 409, "sandbox_ended")
}

func testVMMKilledDuringExec(t *testing.T, s *server) {
	sb := create(t, s.Client, small)
	done := running(t, s.Client, sb.ID)
	kill(t, vmOf(s.dir, sb.ID))
	if e := failure(t, <-done); e.Code != "sandbox_ended" {
		t.Errorf("the exec ended with %v", e)
	}
	wantEnd(t, s, sb.ID, "vmm_crash")
}

// testVMMKilledDuringCreate: the boot is tried once more, or the create fails, or
// the created sandbox ends.
func testVMMKilledDuringCreate(t *testing.T, s *server) {
	created := createMarked(t, s.Client, t.Name())
	id := pending(t, s.Client, t.Name())
	eventually(t, "its VM process is there", func() bool { return vmOf(s.dir, id) != 0 })
	kill(t, vmOf(s.dir, id))
	if err := <-created; err != nil {
		if e := failure(t, err); e.Status != 502 {
			t.Errorf("the create ended with %v", e)
		}
		wantEnd(t, s, id, "boot_failed")
		return
	}
	// The VM may have been killed after the create was committed and before its
	// answer was read.
	if _, err := trySh(t.Context(), s.Client, id, "true"); err != nil {
		wantFailure(t, err, 409, "sandbox_ended")
		wantEnd(t, s, id, "vmm_crash")
		return
	}
	check(t, s.Destroy(t.Context(), id))
}

// testVMMKilledDuringPause kills the VMM while its sandbox is paused. The sandbox has
// ended, unless its memory was saved already.
func testVMMKilledDuringPause(t *testing.T, s *server) {
	sb := create(t, s.Client, small)
	paused := pauseBegun(t, s.Client, s.dir, sb.ID)
	if pid := vmOf(s.dir, sb.ID); pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may end by itself just now
	}
	err := <-paused
	if err == nil {
		_, err := s.Resume(t.Context(), sb.ID)
		check(t, err)
		sh(t, s.Client, sb.ID, "true")
		return
	}
	var e *client.Error
	if !errors.As(err, &e) || e.Status != 502 && e.Status != 409 {
		t.Errorf("the pause ended with %v", err)
	}
	wantEnd(t, s, sb.ID, "vmm_crash")
}
