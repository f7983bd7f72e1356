package host_test

import (
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestPauseWithoutMemory pauses sandboxes so that only the disk is kept, and boots them
// from it: the files stay with their owners and links, processes and the boot id do not. A
// booted sandbox is paused and resumed like any other, with its processes.
func TestPauseWithoutMemory(t *testing.T) { onEachRuntime(t, pauseWithoutMemory) }

func pauseWithoutMemory(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wkdsk")
	ref := b.create()
	b.sh(ref, `mkdir -p /srv/kept && cd /srv/kept && echo first >file && ln file hard && ln -s file soft && chmod 640 file &&
		chown 12:34 file && mkfifo pipe && rm -f /etc/issue && echo second >/root/home && sleep 1000 >/dev/null 2>&1 &`)
	const id = "endedbyaboot"
	call := func(op *guestv1.ProcessCall) (*guestv1.ProcessAnswer, error) {
		return b.CallProcess(t.Context(), ref, op)
	}
	_, err := call(&guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Start{Start: &guestv1.StartProcess{
		Id: id, Start: &process.StartRequest{Process: &process.ProcessConfig{Cmd: "sleep", Args: []string{"1000"}}, Stdin: new(bool)},
	}}})
	check(t, err)
	boot := b.sh(ref, "cat /proc/sys/kernel/random/boot_id")
	b.sh(ref, "until [ -p /srv/kept/pipe ] && [ -e /root/home ]; do sleep 0.1; done; echo in memory >/dev/shm/lost; "+counter)

	pauseDisk(b, ref)
	if s := b.state(ref.ID); s.State != sandbox.Paused || !s.DiskOnly {
		t.Fatalf("after a pause without memory the sandbox is %s, disk only %t; want paused, true", s.State, s.DiskOnly)
	}
	if _, err := b.Snapshot(t.Context(), ref, "diskonly", false); fault.ReasonOf(err) != "paused_without_memory" {
		t.Errorf("snapshot of a sandbox without memory: %v, want paused_without_memory", err)
	}
	ref.Generation++
	_, err = b.Resume(t.Context(), ref) // boots, though it was not told to
	check(t, err)
	second := booted(b, ref, boot)
	ended(t, call, id)
	b.close()
	b.open()
	ended(t, call, id)

	// A full pause of a booted sandbox keeps its processes.
	b.sh(ref, counter)
	before, _ := b.goesOn(ref)
	_, err = b.Pause(t.Context(), ref)
	check(t, err)
	if b.state(ref.ID).DiskOnly {
		t.Error("after a full pause the sandbox is said to have no memory")
	}
	b.close()
	b.open()
	ref.Generation++
	_, err = b.Resume(t.Context(), ref)
	check(t, err)
	if after, _ := b.goesOn(ref); after < before {
		t.Errorf("after a full pause the counter is at %d, before at %d", after, before)
	}
	if again := b.sh(ref, "cat /proc/sys/kernel/random/boot_id"); again != second {
		t.Errorf("after a full pause the boot id is %s, before %s", again, second)
	}

	// A boot from a full pause has the files that were only in memory.
	b.sh(ref, "echo late >/srv/kept/late")
	_, err = b.Pause(t.Context(), ref)
	check(t, err)
	ref.Generation++
	_, err = b.Reboot(t.Context(), ref)
	check(t, err)
	booted(b, ref, second)
	if got := b.sh(ref, "cat /srv/kept/late"); got != "late" {
		t.Errorf("a file written just before a full pause holds %q after the boot, want late", got)
	}
}

// ended checks that the process id is reported as ended by a boot, and that it takes no
// signal.
func ended(t *testing.T, call func(*guestv1.ProcessCall) (*guestv1.ProcessAnswer, error), id string) {
	t.Helper()
	get := &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Get{Get: &guestv1.GetProcess{Id: id}}}
	list := &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_List{List: &guestv1.ListProcesses{}}}
	for what, op := range map[string]*guestv1.ProcessCall{"get": get, "list": list} {
		answer, err := call(op)
		check(t, err)
		if p := answer.GetProcesses(); len(p) != 1 || p[0].GetId() != id || !p[0].GetRebooted() || p[0].GetEndedUnixNano() == 0 || p[0].GetCmd() != "sleep" {
			t.Errorf("%s after a boot: %v, want the process %s, ended by the boot", what, p, id)
		}
	}
	_, err := call(&guestv1.ProcessCall{Operation: &guestv1.ProcessCall_Signal{Signal: &guestv1.SignalProcess{Id: id, Signal: 15}}})
	if fault.ReasonOf(err) != "process_ended" {
		t.Errorf("a signal to it: %v, want process_ended", err)
	}
	get.GetGet().Id = "neverstarted"
	if _, err := call(get); fault.ReasonOf(err) != "process_not_found" {
		t.Errorf("a process that was never started: %v, want process_not_found", err)
	}
}

func pauseDisk(b *bench, ref sandbox.Ref) {
	b.t.Helper()
	_, err := b.PauseDisk(b.t.Context(), ref)
	check(b.t, err)
}

// booted checks that the sandbox has booted from its disk, and returns its boot id, which
// differs from before.
func booted(b *bench, ref sandbox.Ref, before string) string {
	b.t.Helper()
	if s := b.state(ref.ID); s.State != sandbox.Running || s.DiskOnly {
		b.t.Fatalf("after the boot the sandbox is %s, disk only %t; want running, false", s.State, s.DiskOnly)
	}
	got := b.sh(ref, `cd /srv/kept && cat file hard soft && stat -c %a:%u:%g:%h file && stat -c %F pipe && cat /root/home &&
		ls /etc/issue 2>/dev/null; ls /dev/shm/lost 2>/dev/null; pgrep -x sleep; true`)
	if want := "first\nfirst\nfirst\n640:12:34:2\nfifo\nsecond"; got != want {
		b.t.Errorf("after the boot: %q, want %q", got, want)
	}
	now := b.sh(ref, "cat /proc/sys/kernel/random/boot_id")
	if now == before || now == "" {
		b.t.Errorf("after the boot the boot id is %q, before %q", now, before)
	}
	return now
}

// TestAgentKilledDuringBoot kills the agent while a VM boots from the disk of a pause, and
// when it has booted. The sandbox is paused again, and boots.
func TestAgentKilledDuringBoot(t *testing.T) { onEachRuntime(t, agentKilledDuringBoot) }

func agentKilledDuringBoot(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wkdsb")
	ref := b.create()
	b.sh(ref, "echo kept >/root/file")
	pauseDisk(b, ref)
	for _, step := range []string{"resume.configure", "resume.commit"} {
		ref.Generation++
		b.crash("resume", ref, step)
		if s := b.state(ref.ID); s.State != sandbox.Paused || !s.DiskOnly {
			t.Fatalf("killed before %s: the sandbox is %s, disk only %t; want paused, true", step, s.State, s.DiskOnly)
		}
	}
	ref.Generation++
	_, err := b.Resume(t.Context(), ref)
	check(t, err)
	if got := b.sh(ref, "cat /root/file"); got != "kept" {
		t.Errorf("the file holds %q, want kept", got)
	}
}

// TestSparseFilesAndNoMemory: a guest that pauses without memory and has files with large
// holes fills no disk of the host, and is resumed with its processes where it cannot boot.
func TestSparseFilesAndNoMemory(t *testing.T) {
	b := newBenchOf(t, sandbox.RuntimeGVisor, "wkdsp")
	ref := b.create()
	b.sh(ref, "for n in 1 2 3 4; do truncate -s 64G /root/sparse$n; done; truncate -s 7E /root/huge; echo kept >/root/file; "+counter)
	pauseDisk(b, ref)
	ref.Generation++
	if _, err := b.Reboot(t.Context(), ref); fault.ReasonOf(err) != "disk_too_large" {
		t.Errorf("reboot: %v, want disk_too_large", err)
	}
	if s := b.state(ref.ID); s.State != sandbox.Paused || !s.DiskOnly {
		t.Fatalf("after it the sandbox is %s, disk only %t; want paused, true", s.State, s.DiskOnly)
	}
	ref.Generation++
	s, err := b.Resume(t.Context(), ref)
	check(t, err)
	if s.State != sandbox.Running || s.DiskOnly {
		t.Fatalf("after a resume it is %s, disk only %t; want running, false", s.State, s.DiskOnly)
	}
	if got := b.sh(ref, "cat /root/file"); got != "kept" {
		t.Errorf("the file holds %q, want kept", got)
	}
	b.goesOn(ref)

	// Without the files it can boot.
	boot := b.sh(ref, "rm /root/sparse* /root/huge; cat /proc/sys/kernel/random/boot_id")
	pauseDisk(b, ref)
	ref.Generation++
	_, err = b.Resume(t.Context(), ref)
	check(t, err)
	if got := b.sh(ref, "cat /root/file /proc/sys/kernel/random/boot_id"); !strings.HasPrefix(got, "kept\n") || strings.HasSuffix(got, boot) {
		t.Errorf("after a boot the file and the boot id are %q, want kept and another id than %s", got, boot)
	}
}
