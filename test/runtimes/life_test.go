package runtimes

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// pauseTime is the time for which a sandbox stays paused: longer than the holder's
// timer.
const pauseTime = 25 * time.Second

// lone marks the process of this test that has a network of its own.
const lone = "WRENN_TEST_LONE_NETWORK"

// TestLife takes a sandbox of each runtime through a pause, a resume and a fork, and
// compares what became of its processes, connections and clocks with the table in
// docs/runtimes.md. It runs in a network namespace with a world outside, so that a
// sandbox can have a connection to it.
func TestLife(t *testing.T) {
	if os.Getenv(lone) == "" {
		inOwnNetwork(t)
		return
	}
	newWorld(t)
	a := newAgent(t, "wrtl")
	var gvisor, microVM findings
	t.Run("sandboxes", func(t *testing.T) {
		t.Run("gvisor", func(t *testing.T) {
			gvisor = a.of(t).life(sandbox.RuntimeGVisor)
		})
		t.Run("microvm", func(t *testing.T) {
			microVM = a.of(t).life(sandbox.RuntimeMicroVM)
		})
	})
	if !t.Failed() {
		agrees(t, "life", lifeTable(microVM, gvisor))
		agrees(t, "waits", waitTable(microVM, gvisor))
	}
}

// inOwnNetwork runs this test again in a new network namespace.
func inOwnNetwork(t *testing.T) {
	t.Helper()
	hosttest.Root(t)
	args := append([]string{}, os.Args[1:]...)
	args = append(args, "-test.run=^TestLife$", "-test.v", "-test.count=1")
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), lone+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if t.Logf("%s", out); err != nil {
		t.Fatal("the test in its own network failed:", err)
	}
}

// lifeRows are the names of the findings, in the order of the table.
var lifeRows = []string{
	"after a resume: processes", "after a resume: files on the disk and in memory, open files, mappings",
	"after a resume: terminals, inotify watches",
	"after a resume: TCP connections inside", "after a resume: TCP connections to the outside",
	"CLOCK_MONOTONIC during a pause", "CLOCK_BOOTTIME during a pause", "CLOCK_REALTIME after a resume", "a timer that came due during a pause",
	"in the parent of a fork: TCP connections to the outside",
	"in a child: processes", "in a child: files, mappings, terminals, watches", "in a child: TCP connections inside", "in a child: TCP connections to the outside",
	"in a child: random numbers of the kernel", "in a child: machine-id, boot_id, host name", "in a child: process ids",
}

func lifeTable(microVM, gvisor findings) string {
	var b strings.Builder
	b.WriteString("\n| state | microvm | gvisor |\n|---|---|---|\n")
	for _, row := range lifeRows {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", row, microVM[row], gvisor[row])
	}
	b.WriteString("\n")
	return b.String()
}

// life pauses, resumes and forks a sandbox.
func (a agent) life(runtime sandbox.Runtime) findings {
	a.t.Helper()
	ref := a.create(runtime)
	a.hold(ref)
	before := a.report(ref)
	for _, name := range []string{"inside", "outside", "files", "terminal", "watch"} {
		if before[name] != "kept" {
			a.t.Fatalf("before the pause the state of %s is %s", name, before[name])
		}
	}
	child := a.fork(ref, runtime)
	parent, copied := a.report(ref), a.report(child)
	found := findings{
		"in the parent of a fork: TCP connections to the outside": parent["outside"],
		"in a child: processes":                                   goesOn(before, copied),
		"in a child: files, mappings, terminals, watches":         both(copied["files"], both(copied["terminal"], copied["watch"])),
		"in a child: TCP connections inside":                      copied["inside"],
		"in a child: TCP connections to the outside":              copied["outside"],
		"in a child: random numbers of the kernel":                differs(parent, copied, "random"),
		"in a child: machine-id, boot_id, host name":              differs(parent, copied, "machine-id", "boot-id", "hostname"),
		"in a child: process ids":                                 map[bool]string{true: "the same", false: "new"}[parent["pid"] == copied["pid"]],
	}
	found.add(inParent, a.ask(ref, "waits", "waited"))
	found.add(inChild, a.ask(child, "waits", "waited"))
	a.pauseAndResume(ref, found)
	return found
}

// pauseAndResume adds the findings of a long pause, with a new holder whose timer is
// due in it.
func (a agent) pauseAndResume(ref sandbox.Ref, found findings) {
	a.t.Helper()
	a.sh(ref, fmt.Sprintf("kill -9 %s; rm /run/probe.sock", a.report(ref)["pid"]))
	a.hold(ref)
	before := a.report(ref)
	if before["timer"] != "pending" {
		a.t.Fatal("the timer came due before the pause")
	}
	_, err := a.Pause(a.t.Context(), ref)
	check(a.t, err)
	time.Sleep(pauseTime) // the clocks of the guest are compared with this time
	ref.Generation++
	_, err = a.Resume(a.t.Context(), ref)
	check(a.t, err)
	after, now := a.report(ref), time.Now()
	found.add(resumed, a.ask(ref, "waits", "waited"))
	found["after a resume: processes"] = goesOn(before, after)
	found["after a resume: files on the disk and in memory, open files, mappings"] = after["files"]
	found["after a resume: terminals, inotify watches"] = both(after["terminal"], after["watch"])
	found["after a resume: TCP connections inside"] = after["inside"]
	found["after a resume: TCP connections to the outside"] = after["outside"]
	found["CLOCK_MONOTONIC during a pause"] = a.clock(before, after, "monotonic")
	found["CLOCK_BOOTTIME during a pause"] = a.clock(before, after, "boottime")
	found["a timer that came due during a pause"] = map[string]string{
		"fired": "fires at the resume", "pending": "fires after the rest of its time",
	}[after["timer"]]
	skew := now.Sub(time.Unix(0, atoi(a.t, after["realtime"]))).Abs()
	found["CLOCK_REALTIME after a resume"] = map[bool]string{true: "right", false: fmt.Sprintf("wrong by %v", skew)}[skew < 5*time.Second]
}

// fork copies a running sandbox.
func (a agent) fork(parent sandbox.Ref, runtime sandbox.Runtime) sandbox.Ref {
	a.t.Helper()
	id := sandbox.NewSnapshotID()
	_, err := a.Snapshot(a.t.Context(), parent, id, true)
	check(a.t, err)
	child := sandbox.Ref{ID: sandbox.NewID(), Generation: 1}
	_, err = a.CreateFrom(a.t.Context(), child, spec(runtime), id)
	check(a.t, err)
	a.t.Cleanup(func() { _ = a.DeleteSnapshot(context.Background(), id) })
	return child
}

// hold starts the processes that hold things in a sandbox, and returns when they have
// everything.
func (a agent) hold(ref sandbox.Ref) {
	a.t.Helper()
	a.background(ref, "waits", "wait")
	a.background(ref, "probe", "hold "+worldAddress)
}

// background starts the program of the probes and returns when its socket is there.
func (a agent) background(ref sandbox.Ref, name, command string) {
	a.t.Helper()
	a.sh(ref, fmt.Sprintf("setsid %s %s >/run/%s.log 2>&1 & while ! [ -S /run/%[3]s.sock ] && kill -0 $!; do sleep 0.1; done; "+
		"[ -S /run/%[3]s.sock ] || { cat /run/%[3]s.log; false; }", probePath, command, name))
}

// ask returns the report of a process in the background.
func (a agent) ask(ref sandbox.Ref, name, command string) findings {
	a.t.Helper()
	found := findings{}
	for line := range strings.Lines(a.sh(ref, fmt.Sprintf("%s %s || cat /run/%s.log", probePath, command, name))) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "\t")
		found[name] = value
	}
	return found
}

func (a agent) report(ref sandbox.Ref) findings {
	a.t.Helper()
	found := a.ask(ref, "probe", "report")
	if found["count"] == "" {
		a.t.Fatalf("the holder has no report: %v", found)
	}
	return found
}

// clock tells whether a clock went on during a pause.
func (a agent) clock(before, after findings, name string) string {
	a.t.Helper()
	passed := func(name string) time.Duration {
		return time.Duration(atoi(a.t, after[name]) - atoi(a.t, before[name]))
	}
	switch missing := passed("realtime") - passed(name); {
	case missing.Abs() < pauseTime/4:
		return "goes on"
	case missing > pauseTime*3/4:
		return "stands still"
	default:
		return fmt.Sprintf("loses %v of %v", missing, pauseTime)
	}
}

func goesOn(before, after findings) string {
	a, _ := strconv.Atoi(before["count"])
	b, _ := strconv.Atoi(after["count"])
	return map[bool]string{true: "go on", false: fmt.Sprintf("went from %d to %d", a, b)}[b >= a]
}

func differs(parent, child findings, names ...string) string {
	for _, name := range names {
		if parent[name] == child[name] {
			return name + " is the parent's"
		}
	}
	return "new"
}

func both(a, b string) string {
	if a == "kept" {
		return b
	}
	return a
}

func atoi(t testing.TB, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	check(t, err)
	return n
}
