package boot

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The descriptors that the agent inherits.
const (
	// MemoryFD is a Memory.
	MemoryFD = 3
	// DiskFD is the directory where the writable disk is mounted.
	DiskFD = 4
	// LedgerFD is a Ledger.
	LedgerFD = 5
	// CgroupFD is the root of the cgroup tree (kernelFiles).
	CgroupFD = 6
	// PublishedFD is a Published.
	PublishedFD = 7
	// HoldFD is a HoldChannel, in a gVisor sandbox only.
	HoldFD = 8
	// ModulesFD is a pipe that ends when all kernel modules are loaded, in a virtual
	// machine only.
	ModulesFD = 8

	// FirstFD and LastFD bound the descriptors above.
	FirstFD, LastFD = MemoryFD, ModulesFD
)

// Pauses before an agent that died is started again; they double from the first
// to the longest.
const (
	restartFirst = 100 * time.Millisecond
	restartMost  = 5 * time.Second
	// restartCalm is the lifetime of an agent after which the pauses start over.
	restartCalm = time.Second
)

// Init is PID 1. It returns only if the VM cannot be powered off.
//
// Invariants: no other code waits for children; exactly one agent runs or is about
// to be started; agents share memory, settings, disk and ledger; the ledger holds the wait
// status of every reaped process.
type Init struct {
	console *os.File
	memory  *Memory
	ledger  *Ledger
	disk    *os.File
	cgroup  *os.File // the root of the cgroup tree
	// settings are those that root of the guest can read.
	settings *Published
	files    kernelFiles
	later    *later           // nil where there is no kernel of the guest
	holder   *holder          // nil where the kernel has a freezer
	asked    chan holdRequest // requests to holder
	env      []string         // added to the environment of agents
	agent    int              // pid, or 0
	death    string           // how the agent has ended, until another is due
	starts   int
	backoff  time.Duration
	// started is the time when the running agent was started.
	started time.Time
}

// Run boots the guest, runs the agent (this binary with the arguments given)
// until the guest is told to stop, and powers off.
func Run(agentArgs ...string) error {
	i := &Init{backoff: restartFirst}
	err := i.boot()
	if err == nil {
		err = i.supervise(agentArgs)
	}
	if err != nil {
		i.say("boot failed: %v", err)
	}
	return i.powerOff()
}

// say writes one line to the console.
func (i *Init) say(format string, args ...any) {
	out := i.console
	if out == nil {
		out = os.Stderr
	}
	fmt.Fprintf(out, "wrenn-guest: %s\n", strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; "))
}

// boot does everything before the agent.
func (i *Init) boot() (err error) {
	unix.Umask(0o022)
	if err := limitOpenFiles(); err != nil {
		return err
	}
	if err := mountKernel(); err != nil {
		return err
	}
	if i.console, err = os.OpenFile("/dev/console", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return err
	}
	devices, err := listenUevents()
	if err != nil {
		return err
	}
	defer devices.close()
	i.trace("loading modules")
	moduleErr := i.loadModules()
	if moduleErr != nil {
		i.trace("%v", moduleErr)
	}
	i.trace("waiting for disks")
	if err := devices.await(rootDevice, diskDevice); err != nil {
		return errors.Join(err, moduleErr)
	}
	if i.disk, err = mountRoot(); err != nil {
		return errors.Join(err, moduleErr)
	}
	memory, err := memorySize()
	if err != nil {
		return err
	}
	limitUsers := func() error { return setUpCgroups(memory) }
	for _, step := range []func() error{switchRoot, mountSystem, limitUsers, setUpNetwork, i.hideKernel, shareMounts} {
		if err := step(); err != nil {
			return err
		}
	}
	i.trace("starting the agent")
	return i.makeShared()
}

// makeShared makes the files that the agents of this boot share. No user process runs yet.
func (i *Init) makeShared() (err error) {
	if i.memory, err = NewMemory(); err != nil {
		return err
	}
	if i.settings, err = NewPublished(settingsPath); err != nil {
		return err
	}
	i.ledger, err = NewLedger()
	return err
}

// loadModules loads the modules of a boot and opens those for later.
func (i *Init) loadModules() (err error) {
	if i.later, err = openLater(laterModules); err != nil {
		return err
	}
	dir, err := os.OpenRoot(bootModules)
	if err != nil {
		return err
	}
	return errors.Join(loadModules(dir), dir.Close())
}

// loadLater loads the modules that a boot does not need.
func (i *Init) loadLater() {
	if err := i.later.load(); err != nil {
		i.trace("%v", err)
	}
	i.trace("loaded all modules")
}

// hideKernel makes the mounts that only Init and its agents use.
func (i *Init) hideKernel() (err error) {
	i.files, i.cgroup, err = hideKernelFiles()
	return err
}

// The limits of open files that every process begins with: the hard one is the
// kernel's own bound (fs.nr_open, proc(5)), the soft one a value that suits
// servers.
const (
	softOpenFiles = 65_536
	hardOpenFiles = 1_048_576
)

func limitOpenFiles() error {
	limit := unix.Rlimit{Cur: softOpenFiles, Max: hardOpenFiles}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("limit open files: %w", err)
	}
	return nil
}

// trace writes one line with the time since the guest's kernel started, if asked to.
func (i *Init) trace(format string, args ...any) {
	if !Debugging() {
		return
	}
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	i.say("[%s] %s", time.Duration(now.Nano()).Round(time.Millisecond), fmt.Sprintf(format, args...))
}

// Debugging reports whether the kernel command line has wrenn.debug=1.
func Debugging() bool {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return false
	}
	for _, word := range strings.Fields(string(line)) {
		if word == "wrenn.debug=1" {
			return true
		}
	}
	return false
}

// supervise keeps an agent running and reaps until a signal asks to stop.
func (i *Init) supervise(args []string) error {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGCHLD, unix.SIGTERM, unix.SIGINT, unix.SIGPWR, unix.SIGUSR1, unix.SIGUSR2)
	defer signal.Stop(signals)
	restart := time.NewTimer(0)
	for {
		select {
		case <-restart.C:
			i.started = time.Now()
			if err := i.start(args); err != nil {
				return err
			}
			if i.starts == 1 && i.later != nil {
				go i.loadLater()
			}
			if i.starts > 1 {
				i.say("agent restarted after %s", time.Since(i.started).Round(time.Millisecond))
			}
		case sig := <-signals:
			if sig != unix.SIGCHLD {
				i.say("stopping on %s", sig)
				return nil
			}
			i.reap()
			i.holdAgain()
		case request := <-i.asked:
			i.holder.serve(request)
		}
		if i.death != "" {
			i.restartAfterDeath(restart)
		}
	}
}

// restartAfterDeath sets restart to the time at which the next agent is due.
func (i *Init) restartAfterDeath(restart *time.Timer) {
	i.say("agent died (%s), starting it again", i.death)
	i.death = ""
	if time.Since(i.started) > restartCalm {
		i.backoff = restartFirst
	}
	restart.Reset(i.backoff)
	i.backoff = min(2*i.backoff, restartMost)
}

// holdAgain stops the user processes that the end of another process has let run.
func (i *Init) holdAgain() {
	if i.holder == nil {
		return
	}
	if err := i.holder.renew(); err != nil {
		i.say("%v", err)
	}
}

// start runs an agent in its cgroup and in the working directory of Init. Its
// environment tells it which start of this boot it is.
func (i *Init) start(args []string) error {
	i.starts++
	cgroup, err := os.Open(i.files.agent())
	if err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	defer cgroup.Close()
	files := []uintptr{
		i.console.Fd(), i.console.Fd(), i.console.Fd(), i.memory.file.Fd(), i.disk.Fd(), i.ledger.file.Fd(), i.cgroup.Fd(),
		i.settings.file.Fd(),
	}
	if i.later != nil {
		files = append(files, uintptr(i.later.loaded))
	}
	if i.holder != nil {
		inits, agents, err := holdPair()
		if err != nil {
			return err
		}
		defer agents.Close()
		files = append(files, agents.Fd())
		if err := unix.SetNonblock(int(agents.Fd()), true); err != nil { // Fd has made it blocking
			return fmt.Errorf("start agent: %w", err)
		}
		go readRequests(inits, i.asked)
	}
	i.agent, err = syscall.ForkExec(filepath.Join(i.files.proc, "self/exe"), append([]string{"wrenn-guest"}, args...), &syscall.ProcAttr{
		Env: append([]string{
			"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "GODEBUG=" + agentRuntime, StartEnv + "=" + strconv.Itoa(i.starts),
		}, i.env...),
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(cgroup.Fd())},
	})
	if err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	return nil
}

// agentRuntime are settings of the agent's Go runtime. Under software emulation
// code that runs for the first time is expensive, and periodic work keeps a
// processor from idling. Preemption by signals is off, because no loop of the
// agent needs it. The number of processors never changes, so that the runtime need
// not look it up each second. Stacks do not shrink, so that a stack that grew in
// the template does not have to grow again in each clone.
const agentRuntime = "asyncpreemptoff=1,updatemaxprocs=0,gcshrinkstackoff=1"

// StartEnv is the environment variable with the number of this agent among those of
// one boot, from 1.
const StartEnv = "WRENN_AGENT_START"

// reap waits for every child that has ended, including orphans of user commands, and
// for every change of a tracee.
func (i *Init) reap() {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG|unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || pid <= 0:
			return
		case ws.Stopped():
			// Without a holder, a child that has asked to be traced (PTRACE_TRACEME).
			if i.holder != nil {
				i.holder.noteStop(pid, ws)
			}
		case i.holder == nil || i.holder.noteEnd(pid): // and not a thread
			i.noteEnd(pid, ws)
		}
	}
}

// noteEnd records the end of a process.
func (i *Init) noteEnd(pid int, status unix.WaitStatus) {
	if pid == i.agent {
		i.agent = 0
		i.death = fmt.Sprintf("status %d", status.ExitStatus())
		if status.Signaled() {
			i.death = status.Signal().String()
		}
		return
	}
	if err := i.ledger.note(pid, status); err != nil {
		i.say("cannot record the end of process %d: %v", pid, err)
	}
}

// powerOff ends user processes, writes the disk back and turns the VM
// off. It returns only on failure.
func (i *Init) powerOff() error {
	i.endUsers()
	unix.Sync()
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// endUsers kills all user processes.
func (i *Init) endUsers() {
	_ = os.WriteFile(filepath.Join(i.files.users(), "cgroup.kill"), []byte("1"), 0)
}
