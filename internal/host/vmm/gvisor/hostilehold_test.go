package gvisor_test

import (
	"context"
	"crypto/rand"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// counters is a Python program of which each mode counts in /run/count/MODE and tries to
// go on while it is held.
const counters = `import ctypes, fcntl, os, signal, socket, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
mode, name = sys.argv[1:]
TRACEME, CONT = 0, 7

def call(number, *args):
    result = libc.syscall(number, *args)
    if result < 0: raise OSError(ctypes.get_errno(), "system call %d" % number)
    return result

def count(name=name):
    fd = os.open("/run/count/" + name, os.O_CREAT | os.O_WRONLY, 0o666)
    n = 0
    while True:
        n += 1
        os.pwrite(fd, b"%d\n" % n, 0)
        time.sleep(0.002)

def timer(notify=0, sig=signal.SIGCONT, first=5000000, again=5000000):
    event = struct.pack("qiii44x", 0, sig, notify, threading.get_native_id())
    made = ctypes.create_string_buffer(8)
    call(222, 1, event, made)
    call(223, struct.unpack("i", made[:4])[0], 0, struct.pack("qqqq", 0, again, 0, first), None)

def alarm_fd(owner, sig):
    a, b = socket.socketpair()
    fcntl.fcntl(a, fcntl.F_SETOWN, owner)
    fcntl.fcntl(a, 10, sig)  # F_SETSIG
    fcntl.fcntl(a, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    return a, b

if mode == "timer": timer(); count()
if mode == "thread_timer": timer(notify=4); count()
if mode == "threads":
    for i in range(3): threading.Thread(target=count, args=("threads.%d" % i,), daemon=True).start()
    timer(); count()
if mode == "setitimer": signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005); signal.signal(signal.SIGALRM, lambda *_: os.kill(0, signal.SIGCONT)); count()
if mode == "vfork":
    if call(56, 0x4000 | signal.SIGCHLD, 0, 0, 0, 0) == 0: timer(); count()
if mode == "debugger":
    child = os.fork()
    if child == 0:
        libc.ptrace(TRACEME, 0, 0, 0); timer(); count()
    while True:
        os.waitpid(child, 0)
        libc.ptrace(CONT, child, 0, 0)
        open("/run/count/debugs", "a").close()
if mode == "orphan":
    if os.fork(): os._exit(0)
    os.setsid()
    while os.getppid() != 1: time.sleep(0.01)
    timer(); count()
if mode == "traced_orphan":
    if os.fork(): os._exit(0)
    os.setsid()
    while os.getppid() != 1: time.sleep(0.01)
    libc.ptrace(TRACEME, 0, 0, 0)
    timer(); count()
if mode == "command": libc.ptrace(TRACEME, 0, 0, 0); timer(); count()
if mode == "undumpable": libc.prctl(4, 0); os.setgid(1000); os.setuid(1000); timer(); count()
if mode == "doomed": libc.prctl(1, signal.SIGCONT); timer(); count()
if mode == "forks":
    # A chain of short processes. Each starts the next and counts once.
    n = 0
    while True:
        n += 1
        with open("/run/count/forks.new", "w") as f: f.write("%d\n" % n)
        os.rename("/run/count/forks.new", "/run/count/forks")
        if os.fork(): os._exit(0)
if mode == "spawns":
    import subprocess
    n = 0
    while True:
        n += 1
        subprocess.run(["/bin/true"])
        with open("/run/count/spawns", "w") as f: f.write("%d\n" % n)
`

// modes are those of counters and, after a colon, the way to start one.
var modes = []string{
	"timer:", "thread_timer:", "threads:", "setitimer:", "vfork:", "debugger:", "orphan:", "traced_orphan:", "undumpable:", "doomed:",
	"forks:", "spawns:",
	"namespaces:unshare --user --map-root-user --mount --pid --fork --mount-proc",
}

// startCounters starts counters and waits until each counts.
func startCounters(t *testing.T, g *guest, modes ...string) {
	t.Helper()
	_, err := g.Shell(t.Context(), "mkdir -m 777 -p /run/count; cat >/run/counters.py <<'END'\n"+counters+"END\n")
	check(t, err)
	for _, m := range modes {
		mode, with, _ := strings.Cut(m, ":")
		program := mode
		if with != "" {
			program = "timer"
		}
		_, err := g.Shell(t.Context(), "setsid "+with+" python3 /run/counters.py "+program+" "+mode+" >/run/count/"+mode+".log 2>&1 &\n"+
			"for i in $(seq 500); do [ -s /run/count/"+mode+" ] && exit; sleep 0.02; done; cat /run/count/"+mode+".log >&2; exit 1")
		if err != nil {
			t.Fatalf("the counter %s does not start: %v", mode, err)
		}
	}
}

// readCounters returns the counts in a sandbox whose agent may be held.
func readCounters(t *testing.T, d driver, g *guest) string {
	t.Helper()
	return inSandbox(t, d, g, "cd /run/count; for f in *; do case $f in *.log|*.new) ;; *) echo $f $(cat $f) ;; esac; done")
}

// inSandbox runs a script beside the agent, which runsc starts. Init may hold the script
// with the users, if one of them has just ended. Then another one is started.
func inSandbox(t *testing.T, d driver, g *guest, script string) string {
	t.Helper()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), hosttest.Patience(t, 10*time.Second))
		out, err := sandboxCommand(ctx, t, d, g, script).CombinedOutput()
		late := ctx.Err() != nil
		cancel()
		check(t, t.Context().Err())
		if late {
			continue
		}
		if err != nil {
			t.Fatalf("run %q beside the agent: %v: %s", script, err, out)
		}
		return string(out)
	}
}

// sandboxCommand returns the command of runsc that runs a script beside the agent.
func sandboxCommand(ctx context.Context, t *testing.T, d driver, g *guest, script string) *exec.Cmd {
	t.Helper()
	builds, err := d.Builds()
	check(t, err)
	cmd := exec.CommandContext(ctx, filepath.Join(builds[0].Dir, "runsc"), "--root="+g.cfg.Dir, "exec", "vm", "/bin/bash", "-c", script)
	cmd.WaitDelay = time.Second // a script that is held keeps its output open
	return cmd
}

// stand fails unless no counter counts any more. Its timers expire every 5 ms.
func stand(t *testing.T, d driver, g *guest, where, since string) {
	t.Helper()
	inSandbox(t, d, g, "sleep 0.3")
	if now := readCounters(t, d, g); now != since {
		t.Errorf("counters run in %s while users are held:\n%s\nwant:\n%s", where, now, since)
	}
}

// renew gives a copy its identity, as a host does after a fork.
func renew(t *testing.T, g *guest) {
	t.Helper()
	entropy := make([]byte, 64)
	_, _ = rand.Read(entropy)
	_, err := g.Configure(t.Context(), &guestv1.ConfigureRequest{
		SandboxId: "test", Generation: 2, WallClockUnixNano: time.Now().UnixNano(), Entropy: entropy,
		Hostname: "copy", AccessToken: "secret", DefaultUser: "root", NewIdentity: true, Nameservers: []string{"192.0.2.1"},
	})
	check(t, err)
	g.SetToken("secret")
}

// TestHostileProgramsAreHeld: programs that continue themselves by timers, fork, trace
// each other, or hide in namespaces do not run between a hold and the renewal of a copy.
func TestHostileProgramsAreHeld(t *testing.T) {
	d, image := newDriver(t)
	g := newGuest(t, image)
	vm, err := d.Start(t.Context(), g.cfg)
	check(t, err)
	t.Cleanup(func() { kill(t, vm) })
	check(t, g.Ready(t.Context()))
	startCounters(t, g, modes...)
	for _, cover := range []string{"", "mount -t tmpfs none /proc; mount -t tmpfs none /sys/fs/cgroup"} {
		_, err = g.Shell(t.Context(), cover)
		check(t, err)
		check(t, g.Freeze(t.Context()))
		since := readCounters(t, d, g)
		if n := strings.Count(since, "\n"); n < len(modes) {
			t.Fatalf("%d counters, want at least %d: %s", n, len(modes), since)
		}
		stand(t, d, g, "the original", since)
		check(t, vm.Pause(t.Context()))
		from := vmm.Image{Base: t.TempDir()}
		save(t, vm, from.Base)
		kill(t, vm)
		vm, err = d.Restore(t.Context(), g.cfg, from)
		check(t, err)
		stand(t, d, g, "the copy", since)
		renew(t, g)
		countAgain(t, g, modes...)
	}
}

// countAgain fails unless each counter counts.
func countAgain(t *testing.T, g *guest, modes ...string) {
	t.Helper()
	for _, m := range modes {
		mode, _, _ := strings.Cut(m, ":")
		script := "cd /run/count; a=$(cat " + mode + "); for i in $(seq 500); do [ \"$(cat " + mode + ")\" != \"$a\" ] && exit; sleep 0.02; done; exit 1"
		if _, err := g.Shell(t.Context(), script); err != nil {
			t.Errorf("the counter %s does not go on after its release: %v", mode, err)
		}
	}
}
