package host_test

import (
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// serverID is the id of the start command's process in these tests.
const serverID = "server"

// server is a start command of a template that a build has made.
func server(ready ...string) sandbox.StartCommand {
	return sandbox.StartCommand{ID: serverID, Command: []string{"sleep", "1000"}, Ready: ready, ReadyTimeout: 100 * time.Millisecond}
}

// serve starts the process of server, and records it.
func serve(t *testing.T, m *host.Manager, ref sandbox.Ref, start sandbox.StartCommand) {
	t.Helper()
	_, err := m.CallProcess(t.Context(), ref, &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Start{Start: &guestv1.StartProcess{
		Id: start.ID, Start: &process.StartRequest{Process: &process.ProcessConfig{Cmd: start.Command[0], Args: start.Command[1:]}, Stdin: new(bool)},
	}}})
	check(t, err)
	check(t, m.StartAgain(t.Context(), ref, start))
}

// serves checks that a boot has started the process of server again, and returns the steps
// of the restore report.
func serves(t *testing.T, m *host.Manager, ref sandbox.Ref) map[string]time.Duration {
	t.Helper()
	answer, err := m.CallProcess(t.Context(), ref, &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_List{List: &guestv1.ListProcesses{Commands: true}}})
	check(t, err)
	if p := answer.GetProcesses(); len(p) != 1 || p[0].GetId() != serverID || p[0].GetRebooted() || p[0].GetEndedUnixNano() != 0 {
		t.Errorf("processes %v, want the start command, which runs", p)
	}
	if len(answer.GetCommands()) != 0 {
		t.Errorf("commands %v, want none of the host", answer.GetCommands())
	}
	for _, s := range m.List() {
		if s.Ref.ID == ref.ID && s.RestoreReport != nil {
			return s.RestoreReport.Steps
		}
	}
	t.Fatal("there is no restore report")
	return nil
}

// TestCoreStartsTheTemplateAgain: each boot from a disk starts the start command of a template
// that a build has made, also after a restart of the agent, and in sandboxes made from a
// snapshot. A resume with memory starts nothing.
func TestCoreStartsTheTemplateAgain(t *testing.T) {
	for _, k := range shapes(t) {
		t.Run(k.name, func(t *testing.T) {
			c := newCoreOf(t, k)
			ref := c.create()
			serve(t, c.Manager, ref, server("true"))
			pauseSubject(c, ref)
			ref.Generation++
			s, err := c.Resume(t.Context(), ref)
			check(t, err)
			if steps := s.RestoreReport.Steps; steps["start_command"] != 0 || steps["start_command_failed"] != 0 {
				t.Errorf("steps of a resume with memory: %v, want no start", steps)
			}
			takeSnapshot(c, ref)
			copied := newRef()
			_, err = c.CreateFrom(t.Context(), copied, coreSpec, coreSnapshot)
			check(t, err)
			for _, ref := range []sandbox.Ref{ref, copied} {
				pauseSubjectsDisk(c, ref)
				c.restart()
				ref.Generation++
				_, err := c.Resume(t.Context(), ref)
				check(t, err)
				if steps := serves(t, c.Manager, ref); steps["start_command"] == 0 {
					t.Errorf("steps of a boot: %v, want the start", steps)
				}
				check(t, c.Destroy(t.Context(), ref, ""))
			}
		})
	}
}

// TestCoreStartThatFailsAfterABoot: a sandbox whose start command is not ready after a boot, or
// cannot be started, runs, and its restore report says so.
func TestCoreStartThatFailsAfterABoot(t *testing.T) {
	c := newCore(t, fastTemp(t))
	missing, ends, unready := server(), server("false"), server()
	missing.Command, ends.Command, unready.Command = []string{"/nonexistent"}, []string{"false"}, []string{"false"}
	for name, start := range map[string]sandbox.StartCommand{"not_ready": server("false"), "failed": missing, "failed ": ends, " failed": unready} {
		ref := c.create()
		check(t, c.StartAgain(t.Context(), ref, start))
		pauseSubjectsDisk(c, ref)
		ref.Generation++
		s, err := c.Resume(t.Context(), ref)
		check(t, err)
		if s.State != sandbox.Running || s.RestoreReport.Steps["start_command_"+strings.TrimSpace(name)] == 0 {
			t.Errorf("%s: %s, steps %v; want running, and the start in the report", name, s.State, s.RestoreReport.Steps)
		}
		if got := c.read(ref, mark); got != string(ref.ID) {
			t.Errorf("%s: the sandbox's file holds %q", name, got)
		}
	}
}

// TestCoreEndsTheReplacedStart: the start command of a base ends before another one takes its
// place, also if it ignores SIGTERM. A repeated call leaves the new one alone.
func TestCoreEndsTheReplacedStart(t *testing.T) {
	for signal, trap := range map[syscall.Signal]string{syscall.SIGTERM: "-", syscall.SIGKILL: "''"} {
		t.Run(signal.String(), func(t *testing.T) {
			if signal == syscall.SIGKILL {
				host.SetStartGrace(t, time.Millisecond)
			}
			c := newCore(t, fastTemp(t))
			ref := c.create()
			check(t, c.EndStart(t.Context(), ref, serverID)) // there is none
			begun := filepath.Join(t.TempDir(), "begun")     // fake guests run on this machine
			start := server()
			start.Command = []string{"sh", "-c", "trap " + trap + " TERM; touch " + begun + "; while :; do sleep 1000; done"}
			serve(t, c.Manager, ref, start)
			awaitFile(t, begun)
			check(t, c.EndStart(t.Context(), ref, serverID))
			if p := processOf(t, c.Manager, ref, serverID); p.GetEndedUnixNano() != 0 {
				t.Errorf("after its own start: %v, want it to run", p)
			}
			for range 2 { // the second call finds it ended
				check(t, c.EndStart(t.Context(), ref, "other"))
				if p := processOf(t, c.Manager, ref, serverID); p.GetEndedUnixNano() == 0 || p.GetSignal() != uint32(signal) {
					t.Errorf("before the start of another: %v, want it ended by signal %d", p, signal)
				}
			}
			pauseSubject(c, ref)
			if err := c.EndStart(t.Context(), ref, "other"); fault.ReasonOf(err) != "sandbox_not_running" {
				t.Errorf("in a paused sandbox: %v, want sandbox_not_running", err)
			}
		})
	}
}

// waitlessGuest is a connection to a guest that never answers who waits for a process.
type waitlessGuest struct{ net.Conn }

// Write takes whole frames, as clients write calls.
func (g waitlessGuest) Write(b []byte) (int, error) {
	if guestwire.Type(b[0]) == guestwire.Process {
		message := b[5:] // after two bytes of length and the token
		message = message[2+binary.BigEndian.Uint16(message):]
		call := &guestv1.ProcessCall{}
		if proto.Unmarshal(message, call) == nil && call.GetGet().GetWaitMs() > 0 {
			return len(b), nil
		}
	}
	return g.Conn.Write(b)
}

// TestCoreEndOfAStartIsBounded: a guest that never says that the start command has ended does
// not hold up the one that takes its place.
func TestCoreEndOfAStartIsBounded(t *testing.T) {
	host.SetStartGrace(t, time.Millisecond)
	c := newCore(t, fastTemp(t))
	ref := c.create()
	serve(t, c.Manager, ref, server())
	check(t, c.Close())
	c.change = func(cfg *host.Config) { cfg.GuestTimeout = hosttest.Patience(t, 2*time.Second) }
	c.dialed = func(conn net.Conn) net.Conn { return waitlessGuest{conn} }
	c.open()
	if err := c.EndStart(t.Context(), ref, "other"); fault.ReasonOf(err) != "guest_unresponsive" {
		t.Errorf("got %v, want guest_unresponsive", err)
	}
}

// awaitFile waits until there is a file.
func awaitFile(t *testing.T, path string) {
	t.Helper()
	limit := time.After(hosttest.Patience(t, time.Minute))
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s is not there", path)
		}
	}
}

// processOf returns the record of a process.
func processOf(t *testing.T, m *host.Manager, ref sandbox.Ref, id string) *guestv1.ProcessRecord {
	t.Helper()
	answer, err := m.CallProcess(t.Context(), ref, &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Get{Get: &guestv1.GetProcess{Id: id}}})
	check(t, err)
	return answer.GetProcesses()[0]
}

// startingImages are images whose template has a start command.
type startingImages struct {
	host.Images
	start image.Start
}

func (s startingImages) Template(name string) (image.Template, error) {
	t, err := s.Images.Template(name)
	t.Start = s.start
	return t, err
}

// TestCoreStartsBothAtOnce: the start command of the image and that of a build are started
// and awaited at the same time. That of the image is ready here only once the other runs.
func TestCoreStartsBothAtOnce(t *testing.T) {
	c := newCore(t, fastTemp(t))
	booted, runs := filepath.Join(t.TempDir(), "booted"), filepath.Join(t.TempDir(), "runs") // fake guests run on this machine
	c.images = startingImages{c.images, image.Start{Command: "sleep 1000", Ready: "! test -e " + booted + " || test -e " + runs}}
	c.restart()
	ref := c.create()
	start := server("test", "-e", runs)
	start.Command, start.ReadyTimeout = []string{"sh", "-c", "touch " + runs + "; exec sleep 1000"}, time.Hour
	check(t, c.StartAgain(t.Context(), ref, start))
	pauseSubjectsDisk(c, ref)
	check(t, os.WriteFile(booted, nil, 0o600))
	ref.Generation++
	s, err := c.Resume(t.Context(), ref)
	check(t, err)
	if steps := s.RestoreReport.Steps; steps["start_command"] == 0 {
		t.Errorf("steps %v, want both start commands ready", steps)
	}
}

// TestCoreRefusedStarts: what cannot be started again is not recorded.
func TestCoreRefusedStarts(t *testing.T) {
	c := newCore(t, fastTemp(t))
	ref := c.create()
	if err := c.StartAgain(t.Context(), ref, sandbox.StartCommand{ID: serverID}); fault.ReasonOf(err) != "missing_cmd" {
		t.Errorf("without a command: %v, want missing_cmd", err)
	}
	if err := c.StartAgain(t.Context(), newRef(), server()); fault.ReasonOf(err) != "sandbox_not_found" {
		t.Errorf("in no sandbox: %v, want sandbox_not_found", err)
	}
	pauseSubjectsDisk(c, ref)
	if err := c.StartAgain(t.Context(), ref, server()); fault.ReasonOf(err) != "sandbox_not_running" {
		t.Errorf("in a paused sandbox: %v, want sandbox_not_running", err)
	}
	ref.Generation++
	s, err := c.Resume(t.Context(), ref)
	check(t, err)
	if s.RestoreReport.Steps["start_command"] != 0 || s.RestoreReport.Steps["start_command_failed"] != 0 {
		t.Errorf("steps %v, want no start", s.RestoreReport.Steps)
	}
}

// TestCoreDestroyWhileTheTemplateStarts: a resume that waits for a start command is cut off
// by a destroy, as any other.
func TestCoreDestroyWhileTheTemplateStarts(t *testing.T) {
	c := newCore(t, fastTemp(t))
	ref := c.create()
	result := resumeUntilStart(t, c, &ref)
	check(t, c.Destroy(t.Context(), ref, ""))
	if err := <-result; err == nil {
		t.Error("the resume succeeded, though the sandbox was destroyed")
	}
	c.empty()
}

// resumeUntilStart pauses the sandbox without memory, and resumes it until it waits for its
// start command. It returns the result of the resume.
func resumeUntilStart(t *testing.T, c *core, ref *sandbox.Ref) <-chan error {
	t.Helper()
	asked := filepath.Join(t.TempDir(), "asked")
	start := server("sh", "-c", "touch "+asked+"; exit 1") // fake guests run on this machine
	start.ReadyTimeout = time.Hour
	check(t, c.StartAgain(t.Context(), *ref, start))
	pauseSubjectsDisk(c, *ref)
	ref.Generation++
	resumed := *ref
	result := make(chan error, 1)
	go func() { _, err := c.Resume(t.Context(), resumed); result <- err }()
	for {
		if _, err := os.Stat(asked); err == nil {
			return result
		}
		select {
		case err := <-result:
			t.Fatalf("the resume ended before the ready command ran: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestCoreStartThatEndsItsVM: a sandbox whose VM ends while its start command starts is
// still paused, and its next boot leaves the start command out, also by another agent. The
// boot after that starts it again.
func TestCoreStartThatEndsItsVM(t *testing.T) {
	for _, k := range shapes(t) {
		t.Run(k.name, func(t *testing.T) {
			c := newCoreOf(t, k)
			ref := c.create()
			result := resumeUntilStart(t, c, &ref)
			for _, vm := range c.machine.Records() {
				c.machine.End(vm, vmm.CauseGuestReset)
			}
			if err := <-result; fault.ReasonOf(err) != "resume_failed" || !strings.Contains(fault.As(err).Public, "leaves the start command out") {
				t.Errorf("the resume: %v, want resume_failed", err)
			}
			if s := c.of(ref); s.State != sandbox.Paused {
				t.Fatalf("the sandbox is %s, want paused", s.State)
			}
			c.restart()
			ref.Generation++
			s, err := c.Resume(t.Context(), ref)
			check(t, err)
			if s.State != sandbox.Running || s.RestoreReport.Steps["start_command_failed"] == 0 {
				t.Errorf("%s, steps %v; want running, and the start in the report", s.State, s.RestoreReport.Steps)
			}
			if got := c.read(ref, mark); got != string(ref.ID) {
				t.Errorf("the sandbox's file holds %q", got)
			}
			check(t, c.StartAgain(t.Context(), ref, server("true")))
			pauseSubjectsDisk(c, ref)
			ref.Generation++
			_, err = c.Resume(t.Context(), ref)
			check(t, err)
			if steps := serves(t, c.Manager, ref); steps["start_command"] == 0 {
				t.Errorf("steps of the boot after it: %v, want the start", steps)
			}
		})
	}
}
