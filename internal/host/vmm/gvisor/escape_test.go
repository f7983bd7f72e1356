package gvisor_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/vmmtest/escape"
)

func TestMain(m *testing.M) {
	escape.MaybeChild()
	os.Exit(m.Run())
}

// enter is a program in Perl, which has one thread: a process with several cannot join
// a user namespace (setns(2)). It joins the namespaces of the process PID, has its root
// directory and first user id, and starts ./player of the directory DIR in it. Perl is
// an essential package of Debian and of Ubuntu.
const enter = `use strict; use Fcntl; use POSIX ();
my ($pid, $dir, @args) = @ARGV;
POSIX::close($_) for 4 .. 255;
my @spaces = map { open(my $f, "<", "/proc/$pid/ns/$_") or die "$_: $!"; $f } qw(net ipc uts mnt pid user);
sysopen(my $root, "/proc/$pid/root", O_RDONLY|O_DIRECTORY) or die "root: $!";
sysopen(my $programs, $dir, O_RDONLY|O_DIRECTORY) or die "$dir: $!";
syscall(116, 0, 0) == 0 or die "setgroups: $!";
for (@spaces) { syscall(308, fileno($_), 0) == 0 or die "setns: $!" }
chdir($root) && chroot(".") or die "chroot: $!";
syscall(119, 0, 0, 0) == 0 && syscall(117, 0, 0, 0) == 0 or die "ids: $!";
if (my $child = fork // die "fork: $!") {
	waitpid($child, 0);
	kill($? & 127, $$) if $? & 127;
	exit($? >> 8);
}
chdir($programs) or die "chdir: $!";
exec {"./player"} "player", @args or die "exec: $!";
`

// onlyFilter: nothing but the filter keeps a sentry from that part of the kernel.
const onlyFilter = "the filter of system calls alone refuses it"

// allowed are the attempts that work where a sentry stands, with its filter of system
// calls and without. None reaches anything of the host or of another sandbox.
var (
	allowed = map[string]string{
		"locked memory": "it counts in the control group like other memory",
	}
	allowedWithoutFilter = map[string]string{
		"locked memory":                    allowed["locked memory"],
		"a thousand descriptors":           "a sentry needs one for each process of its guest",
		"root's user id":                   "it is that of the sandbox, in its user namespace",
		"root's group id":                  "likewise",
		"capabilities":                     "CAP_SYS_PTRACE is good for processes of its user namespace",
		"capabilities in the bounding set": "likewise",
		"a unix socket":                    "its network namespace has no other one",
		"a UDP socket":                     "the network rules decide",
		"an IPv6 socket":                   "likewise",
		"netlink":                          "it is about its network namespace",
		"vsock":                            "only a hypervisor answers",
		"a socket pair":                    "both ends are its own",
		"a message queue":                  "its IPC namespace has no other one",
		"a key":                            "for its own thread",
		"the session's keys":               onlyFilter,
		"the requested key":                onlyFilter,
		"io_uring":                         onlyFilter,
		"inotify":                          onlyFilter,
		"segments":                         onlyFilter,
		"the clock":                        "it can be read only",
		"its personality":                  onlyFilter,
		"Landlock rules of its own":        "they only take rights away",
		"vfork":                            onlyFilter,
	}
)

// TestEscapeFindsNothing runs the attempts from where a sentry stands that its guest
// has taken over, as far as another process can: with its user id, capabilities,
// limits, namespaces, root directory, control group and filter of system calls. The
// attempts are made once more without the filter, which is then not needed for most.
func TestEscapeFindsNothing(t *testing.T) {
	hosttest.Root(t)
	w := escape.New(t, uid, uid)
	g, vm := running(t)
	sentry := vm.Record().PID
	for name := range files(t, sentry) {
		if strings.HasPrefix(name, w.Dir) {
			t.Errorf("the sentry has inherited %s", name)
		}
	}
	outside := escape.Outside(t, w)
	dir := buildPlayer(t)
	image, err := os.Open(g.cfg.RootImage)
	check(t, err)
	defer image.Close()
	w.Disk = 3
	player := func(w escape.World) *exec.Cmd {
		args := w.Player(t)
		cmd := exec.Command("perl", append([]string{"-e", enter, strconv.Itoa(sentry), dir}, args...)...)
		cmd.ExtraFiles = []*os.File{image}
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(g.cfg.Cgroup.Fd())}
		return cmd
	}
	w.Stand, err = escape.StandOf(sentry)
	check(t, err)
	t.Run("WithoutFilter", func(t *testing.T) {
		escape.Judge(t, escape.Results(t, player(w)), outside, allowedWithoutFilter)
	})
	t.Run("WithFilter", func(t *testing.T) {
		var err error
		w.Stand.Filter, err = escape.FilterOf(sentry)
		check(t, err)
		escape.Judge(t, escape.Each(t, w, player), outside, allowed)
	})
}

// buildPlayer builds the player, without libraries, and returns its directory.
func buildPlayer(t *testing.T) string {
	t.Helper()
	dir := hosttest.Dir(t)
	cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, "player"), "github.com/wrenn-dev/wrenn/internal/host/vmm/vmmtest/escape/player")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the player: %v: %s", err, out)
	}
	check(t, os.Chmod(dir, 0o755))
	return dir
}
