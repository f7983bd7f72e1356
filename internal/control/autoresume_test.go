package control_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/memstore"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// pausedOne returns a paused sandbox that use resumes.
func (b *bundle) pausedOne() control.Sandbox {
	b.t.Helper()
	row := b.createWith(sandbox.Spec{AutoResume: true})
	row, err := b.Pause(b.t.Context(), row.ID)
	if err != nil {
		b.t.Fatal("pause:", err)
	}
	return row
}

// uses are the ways to use a sandbox.
func (b *bundle) uses() map[string]func(id sandbox.ID) error {
	ctx := b.t.Context()
	return map[string]func(id sandbox.ID) error{
		"exec": func(id sandbox.ID) error {
			_, err := b.Exec(ctx, id, control.Exec{Cmd: "x"}, sink{new(bytes.Buffer)})
			return err
		},
		"write": func(id sandbox.ID) error {
			_, err := b.WriteFile(ctx, id, control.WriteFile{Path: "/a"}, strings.NewReader("abc"))
			return err
		},
		"read": func(id sandbox.ID) error {
			_, err := b.ReadFile(ctx, id, control.ReadFile{Path: "/a"})
			return err
		},
		"file": func(id sandbox.ID) error {
			page, err := b.CallFile(ctx, id, control.FileStat{Path: "/a"})
			if err == nil && len(page.Entries) != 1 {
				b.t.Errorf("got %+v, want one entry", page)
			}
			return err
		},
		"watch": func(id sandbox.ID) error {
			ready := errors.New("the watch is armed")
			err := b.WatchFiles(ctx, id, control.FileWatch{Path: "/a"}, func(control.FileEvent) error { return ready })
			if errors.Is(err, ready) {
				return nil
			}
			return err
		},
		"dial": func(id sandbox.ID) error {
			_, err := b.DialPort(ctx, id, 80)
			return err
		},
		"process": func(id sandbox.ID) error {
			ps, err := b.CallProcess(ctx, id, control.ProcessGet{ID: "p"})
			if err == nil && (len(ps) != 1 || ps[0].ID != "p") {
				b.t.Errorf("got %+v, want the process p", ps)
			}
			return err
		},
		"attach": func(id sandbox.ID) error {
			out := processSink{new(bytes.Buffer)}
			p, err := b.AttachProcess(ctx, id, control.ProcessAttach{ID: "p"}, out)
			if err == nil && (p.ID != "p" || out.String() != "hi") {
				b.t.Errorf("got %+v and the output %q, want that of p", p, out)
			}
			return err
		},
	}
}

// processSink is a control.ProcessSink that keeps the output.
type processSink struct{ *bytes.Buffer }

func (processSink) Attached(control.Process) error { return nil }
func (s processSink) Output(_ string, _ int64, data []byte) error {
	_, err := s.Write(data)
	return err
}
func (processSink) Truncated(int64, int64) error { return nil }

func TestUseResumes(t *testing.T) {
	b := setup(t)
	for name, use := range b.uses() {
		row := b.pausedOne()
		if err := use(row.ID); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		b.want(row.ID, sandbox.Running, "", control.VMRunning)
		if err := b.Destroy(t.Context(), row.ID); err != nil { // for the capacity
			t.Fatal(err)
		}
	}
	plain := b.create()
	if _, err := b.Pause(t.Context(), plain.ID); err != nil {
		t.Fatal(err)
	}
	for _, use := range b.uses() {
		wantFault(t, use(plain.ID), fault.WrongState, "sandbox_not_running")
	}
	b.want(plain.ID, sandbox.Paused, "", control.VMPaused)
}

// atOnce runs n commands in a sandbox and returns their errors.
func atOnce(s *control.Service, id sandbox.ID, n int) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			_, errs[i] = s.Exec(context.Background(), id, control.Exec{Cmd: "x"}, sink{new(bytes.Buffer)})
		})
	}
	wg.Wait()
	return errs
}

func TestManyUsersOneResume(t *testing.T) {
	b := setup(t)
	row := b.pausedOne()
	for _, err := range atOnce(b.Service, row.ID, 20) {
		if err != nil {
			t.Error(err)
		}
	}
	if got := b.host.count["resume"]; got != 1 {
		t.Errorf("%d resumes, want 1", got)
	}
}

// TestManyProcessesOneResume: the same across control planes that share only
// the database.
func TestManyProcessesOneResume(t *testing.T) {
	b := setup(t)
	other, err := control.New(control.DefaultConfig(), b.store, newFakeFleet(b.host), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	row := b.pausedOne()
	var wg sync.WaitGroup
	for _, s := range []*control.Service{b.Service, other} {
		wg.Go(func() {
			for _, err := range atOnce(s, row.ID, 5) {
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := b.host.count["resume"]; got != 1 {
		t.Errorf("%d resumes, want 1", got)
	}
}

var errFull = fault.New(fault.NoCapacity, "no_memory", "the host is full")

// forgetReads has awaitReads count from now.
func (b *bundle) forgetReads() {
	for len(b.store.gets) > 0 {
		<-b.store.gets
	}
}

// awaitReads returns when a sandbox's row has been read n times.
func (b *bundle) awaitReads(id sandbox.ID, n int) {
	b.t.Helper()
	timeout := time.After(30 * time.Second)
	for n > 0 {
		select {
		case got := <-b.store.gets:
			if got == id {
				n--
			}
		case <-timeout:
			b.t.Fatalf("%s was not read %d times more", id, n)
		}
	}
}

// TestResumeFailsForAll: everyone who waits is told why.
func TestResumeFailsForAll(t *testing.T) {
	b := setup(t)
	row := b.pausedOne()
	const users = 5
	g := newGate()
	b.host.script(true, "resume", func(ctx context.Context, ref sandbox.Ref) error {
		b.host.script(true, "resume", refuse(errFull))
		if err := g.wait(ctx, ref); err != nil {
			return err
		}
		return errFull
	})
	b.forgetReads()
	errs := make(chan error, users)
	for range users {
		go func() {
			_, err := b.Exec(t.Context(), row.ID, control.Exec{Cmd: "x"}, sink{new(bytes.Buffer)})
			errs <- err
		}()
	}
	<-g.entered
	b.awaitReads(row.ID, users+1) // each its own, and the resume
	close(g.open)
	for range users {
		wantFault(t, <-errs, fault.NoCapacity, "no_memory")
	}
	b.want(row.ID, sandbox.Paused, "", control.VMPaused)
}

// TestUseWaitsForPause: a pause under way ends before the resume begins.
func TestUseWaitsForPause(t *testing.T) {
	b := setup(t)
	row := b.createWith(sandbox.Spec{AutoResume: true})
	g := newGate()
	b.host.script(true, "pause", g.wait)
	paused := make(chan error)
	go func() {
		_, err := b.Pause(t.Context(), row.ID)
		paused <- err
	}()
	<-g.entered
	b.forgetReads()
	used := make(chan error)
	go func() { used <- b.uses()["exec"](row.ID) }()
	b.awaitReads(row.ID, 1)
	close(g.open)
	if err := <-paused; err != nil {
		t.Error(err)
	}
	if err := <-used; err != nil {
		t.Error(err)
	}
	b.want(row.ID, sandbox.Running, "", control.VMRunning)
}

// TestUseWaitsNoLongerThanResume has another process die half-way.
func TestUseWaitsNoLongerThanResume(t *testing.T) {
	b := setup(t, func(c *control.Config) { c.ResumeTimeout = 30 * time.Millisecond })
	row := b.pausedOne()
	if _, won, err := b.store.Move(t.Context(), control.Move{Ref: row.Ref(), From: sandbox.Paused, To: sandbox.Resuming}); err != nil || !won {
		t.Fatal(won, err)
	}
	wantFault(t, b.uses()["exec"](row.ID), fault.Timeout, "resume_timeout")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Exec(ctx, row.ID, control.Exec{Cmd: "x"}, sink{new(bytes.Buffer)})
	if !fault.Is(err, fault.Canceled) {
		t.Errorf("%v, want canceled", err)
	}
}

// TestUseOfWhatTheHostPaused: the host has paused it, as on a timeout, and the
// row does not know yet. A command that has been sent once is not sent again.
func TestUseOfWhatTheHostPaused(t *testing.T) {
	b := setup(t)
	for name, use := range b.uses() {
		row := b.createWith(sandbox.Spec{AutoResume: true})
		b.host.put(control.ObservedSandbox{Ref: row.Ref(), Spec: row.Spec, State: control.VMPaused})
		if err := use(row.ID); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		b.want(row.ID, sandbox.Running, "", control.VMRunning)
		if err := b.Destroy(t.Context(), row.ID); err != nil { // for the capacity
			t.Fatal(err)
		}
	}
	row := b.createWith(sandbox.Spec{AutoResume: true})
	b.host.script(true, "exec", func(context.Context, sandbox.Ref) error {
		b.host.put(control.ObservedSandbox{Ref: row.Ref(), Spec: row.Spec, State: control.VMPaused})
		return fault.New(fault.WrongState, "sandbox_paused", "paused while the command ran")
	})
	wantFault(t, b.uses()["exec"](row.ID), fault.WrongState, "sandbox_paused")
	if got := b.host.count["exec"]; got != 2 { // refused and done above; the one that began is not counted
		t.Errorf("%d commands reached the host, want 2: one that had begun was begun again", got)
	}
}

// TestUploadIsNotSentTwice: the host refuses after it has taken some of it.
func TestUploadIsNotSentTwice(t *testing.T) {
	b := setup(t)
	row := b.createWith(sandbox.Spec{AutoResume: true})
	b.host.eager = true
	b.host.put(control.ObservedSandbox{Ref: row.Ref(), Spec: row.Spec, State: control.VMPaused})
	wantFault(t, b.uses()["write"](row.ID), fault.WrongState, "sandbox_paused")
	b.want(row.ID, sandbox.Running, "", control.VMRunning)
	if got := b.host.count["write"]; got != 1 {
		t.Errorf("the host was asked %d times, want 1", got)
	}
}

// readCounter counts the rows that are read by their id. A read takes a millisecond,
// so that callers at one instant read the same state.
type readCounter struct {
	*memstore.Store
	reads atomic.Int32
}

// Get implements control.Store.
func (s *readCounter) Get(ctx context.Context, id sandbox.ID) (control.Sandbox, error) {
	s.reads.Add(1)
	row, err := s.Store.Get(ctx, id)
	time.Sleep(time.Millisecond)
	return row, err
}

// TestWaitersDoNotPoll: callers that wait for a resume in their own process do not read
// the database again until it has ended.
func TestWaitersDoNotPoll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, host := &readCounter{Store: memstore.New(time.Now)}, newFakeHost("h1")
		s, err := control.New(control.DefaultConfig(), store, newFakeFleet(host), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		row, err := s.Create(t.Context(), control.NewSandbox{Spec: request(sandbox.Spec{AutoResume: true})})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Pause(t.Context(), row.ID); err != nil {
			t.Fatal(err)
		}
		resume := newGate()
		host.script(true, "resume", resume.wait)
		done := make(chan []error)
		go func() { done <- atOnce(s, row.ID, 10) }()
		time.Sleep(time.Second)
		before := store.reads.Load()
		time.Sleep(time.Minute)
		if after := store.reads.Load(); after != before {
			t.Errorf("waiting for a resume read %d rows in a minute, want 0", after-before)
		}
		close(resume.open)
		for _, err := range <-done {
			if err != nil {
				t.Error(err)
			}
		}
	})
}

// TestRefusedPort: a guest that refuses a connection is running, so that its host is
// not asked for its state.
func TestRefusedPort(t *testing.T) {
	b := setup(t)
	row := b.create()
	if _, err := b.DialPort(t.Context(), row.ID, refusedPort); !fault.Is(err, fault.HostFailed) || fault.ReasonOf(err) != control.ReasonPortRefused {
		t.Errorf("a port on which nothing listens: %v, want port_refused", err)
	}
	conn, err := b.DialPort(t.Context(), row.ID, 80)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	b.want(row.ID, sandbox.Running, "", control.VMRunning)
}
