// Package vmmtest is the suite that every VMM driver passes, on real VMs.
//
// A driver's own test gives a Fixture and calls Run. The suite boots a handful
// of guests; it never knows which driver it talks to.
package vmmtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

// Fixture holds the surroundings of the driver that the suite needs.
type Fixture struct {
	Driver vmm.Driver
	// New makes the resources of one VM, freed at the end of the test.
	New func(t *testing.T) Guest
	// Limit bounds every single test; a cold boot under emulation takes seconds.
	Limit time.Duration
	// Processes are the VM processes; nil is those of the operating system.
	Processes Processes
}

// Processes sends signals to VM processes from outside of a driver.
type Processes interface {
	// Crash ends a process at once, as SIGKILL does.
	Crash(vmm.Record) error
	// Stop keeps a process from running until Continue.
	Stop(vmm.Record) error
	Continue(vmm.Record) error
	// Alive reports whether a process runs.
	Alive(vmm.Record) bool
}

// osProcesses are the processes of the operating system.
type osProcesses struct{}

func (osProcesses) Crash(rec vmm.Record) error    { return syscall.Kill(rec.PID, syscall.SIGKILL) }
func (osProcesses) Continue(rec vmm.Record) error { return syscall.Kill(rec.PID, syscall.SIGCONT) }

// Stop returns once every thread has stopped: those that run at the moment do so when
// the kernel gets hold of them.
func (osProcesses) Stop(rec vmm.Record) error {
	if err := syscall.Kill(rec.PID, syscall.SIGSTOP); err != nil {
		return err
	}
	for end := time.Now().Add(stopPatience); ; runtime.Gosched() {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", rec.PID))
		if err != nil {
			return err
		}
		runs := slices.ContainsFunc(threads, func(d os.DirEntry) bool {
			thread, err := strconv.Atoi(d.Name())
			if err != nil {
				return false
			}
			stat, err := proc.ReadThreadStat(rec.PID, thread)
			return err == nil && stat.State != 'T'
		})
		if !runs {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("process %d does not stop", rec.PID)
		}
	}
}

// stopPatience bounds Stop on a machine that is busy with other things.
const stopPatience = 30 * time.Second

// Alive reports false for a process that only waits to be reaped: a driver that
// detached leaves that to the parent of orphans.
func (osProcesses) Alive(rec vmm.Record) bool {
	stat, err := proc.ReadStat(rec.PID)
	return err == nil && stat.State != 'Z'
}

// Guest is the surroundings of one VM.
type Guest struct {
	// Config boots it cold.
	Config vmm.Config
	// Ready returns once the guest answers.
	Ready func(ctx context.Context) error
	// Count runs a counter in the guest the first time and returns its value
	// each time: proof that processes survive.
	Count func(ctx context.Context) (int, error)
	// Freeze prepares the guest for a snapshot; Thaw undoes that.
	Freeze, Thaw func(ctx context.Context) error
}

// Run runs the whole suite.
func Run(t *testing.T, f Fixture) {
	if f.Processes == nil {
		f.Processes = osProcesses{}
	}
	t.Run("BootPauseResume", f.bootPauseResume)
	t.Run("SaveAndRestore", f.saveAndRestore)
	t.Run("ExitIsNoticed", f.exitIsNoticed)
	t.Run("AdoptAndFind", f.adoptAndFind)
	if !f.Driver.Info().Shape.DiskInSnapshot {
		t.Run("DiskCopy", f.diskCopy)
	}
	t.Run("StoppedProcess", f.stoppedProcess)
	t.Run("StartFailsClean", f.startFailsClean)
	t.Run("RestoreRefusesDamage", f.restoreRefusesDamage)
}

func (f Fixture) start(t *testing.T) (context.Context, Guest, vmm.VM) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), f.Limit)
	t.Cleanup(cancel)
	g := f.New(t)
	vm, err := f.Driver.Start(ctx, g.Config)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() { f.kill(t, vm) })
	if err := g.Ready(ctx); err != nil {
		console, _ := vm.Console(context.WithoutCancel(ctx))
		t.Fatalf("the guest did not come up: %v\nconsole: %s", err, console)
	}
	return ctx, g, vm
}

func (f Fixture) kill(t *testing.T, vm vmm.VM) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), f.Limit)
	defer cancel()
	if err := vm.Kill(ctx); err != nil {
		t.Errorf("kill: %v", err)
	}
	if f.Processes.Alive(vm.Record()) {
		t.Errorf("process %d is still there after Kill", vm.Record().PID)
	}
}

func (f Fixture) bootPauseResume(t *testing.T) {
	ctx, g, vm := f.start(t)
	before := count(ctx, t, g)
	for range 2 { // each call twice: they are idempotent
		check(t, "pause", vm.Pause(ctx))
	}
	for range 2 {
		check(t, "resume", vm.Resume(ctx))
	}
	if after := count(ctx, t, g); after < before {
		t.Fatalf("the counter went from %d back to %d", before, after)
	}
	console, err := vm.Console(ctx)
	check(t, "console", err)
	if !bytes.Contains(console, []byte("wrenn-guest")) {
		t.Fatalf("the console shows nothing of the guest agent: %q", console)
	}
	f.kill(t, vm)
	f.kill(t, vm)
	if got := vm.Exit().Cause; got != vmm.CauseKilled {
		t.Fatalf("exit cause %q, want killed", got)
	}
}

func (f Fixture) exitIsNoticed(t *testing.T) {
	ctx, _, vm := f.start(t)
	check(t, "kill -9", f.Processes.Crash(vm.Record()))
	select {
	case <-vm.Exited():
	case <-ctx.Done():
		t.Fatal("the end of the process was not noticed")
	}
	if got := vm.Exit().Cause; got != vmm.CauseVMM {
		t.Fatalf("exit cause %q, want vmm", got)
	}
	if err := vm.Pause(ctx); err == nil {
		t.Fatal("pausing a VM that is gone succeeded")
	}
}

func (f Fixture) adoptAndFind(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), f.Limit)
	defer cancel()
	g := f.New(t)
	vm, err := f.Driver.Start(ctx, g.Config)
	check(t, "start", err)
	check(t, "ready", g.Ready(ctx))
	rec := vm.Record()
	found, err := f.Driver.Find(filepath.Dir(g.Config.Dir))
	check(t, "find", err)
	if len(found) != 1 || found[0].PID != rec.PID || found[0].StartTicks != rec.StartTicks {
		t.Fatalf("found %+v, want process %d", found, rec.PID)
	}
	stranger := rec
	stranger.StartTicks++
	check(t, "kill of a stranger", f.Driver.KillRecord(ctx, stranger))
	if !f.Processes.Alive(rec) {
		t.Fatal("KillRecord killed a process that only has the same PID")
	}
	if _, err := f.Driver.Adopt(ctx, stranger); err == nil {
		t.Fatal("a process that only has the same PID was adopted")
	}
	before := count(ctx, t, g)
	vm.Detach()
	adopted, err := f.Driver.Adopt(ctx, rec)
	check(t, "adopt", err)
	t.Cleanup(func() { f.kill(t, adopted) })
	check(t, "pause of an adopted VM", adopted.Pause(ctx))
	check(t, "resume of an adopted VM", adopted.Resume(ctx))
	if after := count(ctx, t, g); after < before {
		t.Fatalf("the counter went from %d back to %d", before, after)
	}
	check(t, "kill by record", f.Driver.KillRecord(ctx, rec))
	select {
	case <-adopted.Exited():
	case <-ctx.Done():
		t.Fatal("the end of an adopted VM was not noticed")
	}
	check(t, "kill by record again", f.Driver.KillRecord(ctx, rec))
}

// stoppedProcess: a VMM that does not answer fails calls when their time is over
// and is no end of the VM. It carries out the requests of that time in order.
// It can be adopted, and killed at once.
func (f Fixture) stoppedProcess(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), f.Limit)
	defer cancel()
	g := f.New(t)
	vm, err := f.Driver.Start(ctx, g.Config)
	check(t, "start", err)
	rec := vm.Record()
	t.Cleanup(func() { check(t, "kill by record", f.Driver.KillRecord(context.Background(), rec)) })
	check(t, "ready", g.Ready(ctx))
	before := count(ctx, t, g)
	check(t, "ping", vm.Ping(ctx))
	check(t, "stop the process", f.Processes.Stop(rec))
	briefly := func(what string, call func(context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		if err := call(ctx); err == nil {
			t.Fatalf("%s of a stopped VMM succeeded", what)
		}
	}
	briefly("ping", vm.Ping)
	briefly("pause", vm.Pause)
	briefly("resume", vm.Resume)
	select {
	case <-vm.Exited():
		t.Fatal("a VMM that does not answer counts as ended")
	default:
	}
	vm.Detach()
	adopted, err := f.Driver.Adopt(ctx, rec)
	check(t, "adopt a stopped VMM", err)
	t.Cleanup(func() { f.kill(t, adopted) })
	briefly("ping", adopted.Ping)
	check(t, "continue the process", f.Processes.Continue(rec))
	check(t, "ping", adopted.Ping(ctx))
	check(t, "resume", adopted.Resume(ctx))
	if after := count(ctx, t, g); after < before {
		t.Fatalf("the counter went from %d back to %d", before, after)
	}
	check(t, "stop the process again", f.Processes.Stop(rec))
	f.kill(t, adopted)
}

func (f Fixture) startFailsClean(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), f.Limit)
	defer cancel()
	g := f.New(t)
	g.Config.RootImage = filepath.Join(t.TempDir(), "missing")
	vm, err := f.Driver.Start(ctx, g.Config)
	if err == nil {
		f.kill(t, vm)
		t.Fatal("a VM without its root image started")
	}
	if vm != nil {
		t.Fatalf("with the error comes a VM that is not nil: %#v", vm)
	}
	f.nothingLeft(t, g)
}

func (f Fixture) restoreRefusesDamage(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), f.Limit)
	defer cancel()
	g := f.New(t)
	from := vmm.Image{Base: t.TempDir()}
	for _, file := range f.Driver.Files(vmm.Whole) {
		check(t, "write", os.WriteFile(filepath.Join(from.Base, file.Name), bytes.Repeat([]byte("damage"), 3000), 0o644))
	}
	if vm, err := f.Driver.Restore(ctx, g.Config, from); err == nil {
		f.kill(t, vm)
		t.Fatal("a damaged state was restored")
	}
	f.nothingLeft(t, g)
}

func (f Fixture) nothingLeft(t *testing.T, g Guest) {
	t.Helper()
	found, err := f.Driver.Find(filepath.Dir(g.Config.Dir))
	check(t, "find", err)
	if len(found) != 0 {
		t.Fatalf("processes left behind: %+v", found)
	}
}

func count(ctx context.Context, t *testing.T, g Guest) int {
	t.Helper()
	n, err := g.Count(ctx)
	check(t, "count", err)
	return n
}

func check(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
