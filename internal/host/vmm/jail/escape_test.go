package jail_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/vmm/jail"
	"github.com/wrenn-dev/wrenn/internal/linux/cgroupfs"
)

// Ids of the test's processes. The victim has the same as the one in the jail:
// nothing but the jail is between them.
const (
	jailUID   = 699_998
	memoryGID = 0x70000001
)

const secret = "another sandbox's secret"

// minProven is how many of the attempts must be shown to work outside the jail.
const minProven = 40

// world lists the targets of an escaped VMM. It travels as JSON.
type world struct {
	Dir         string // the agent's data directory
	Memory      string // memory file of the process's own base
	Disk        int    // descriptor of its own disk
	Leaked      int    // descriptor that the agent has forgotten to close on exec
	VictimPID   int
	AgentSocket string
	Abstract    string
	TCP         uint16 // port on the loopback address
	SharedID    int    // System V shared memory
	Cgroup      string // directory of another sandbox's control group, or ""
}

func (w world) file(name string) string { return filepath.Join(w.Dir, name) }

func TestMain(m *testing.M) {
	switch os.Args[0] {
	case "player":
		play(os.Args[1])
		os.Exit(0)
	case "nothing":
		os.Exit(0)
	case "victim":
		beVictim()
	}
	os.Exit(m.Run())
}

// TestEscapeFindsNothing runs attempts to leave the jail from a process in it,
// as a VMM would be that was taken over before it narrowed its filter. The same
// attempts are run by root outside, which shows that each of them can succeed.
func TestEscapeFindsNothing(t *testing.T) {
	needRoot(t)
	w := makeWorld(t)
	outside := runOutside(t, w)
	inside := runInside(t, w)
	proven := 0
	for _, a := range attempts {
		if res, ok := inside[a.name]; !ok {
			t.Errorf("%s: the process in the jail did not get to it", a.name)
		} else if res == "" {
			t.Errorf("%s: works in the jail", a.name)
		}
		if res, ok := outside[a.name]; ok && res == "" {
			proven++
		} else {
			t.Logf("%s: proves nothing on this machine, because it fails outside the jail too: %s", a.name, res)
		}
	}
	t.Logf("%d attempts, %d of which work outside the jail", len(attempts), proven)
	if proven < minProven {
		t.Errorf("only %d attempts work outside the jail, want %d: the others prove nothing", proven, minProven)
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if strings.Contains(os.Getenv("WRENN_REQUIRE"), "root") {
		t.Fatal("WRENN_REQUIRE demands root")
	}
	t.Skip("needs root")
}

// makeWorld makes a host with another sandbox on it.
func makeWorld(t *testing.T) world {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "wrenn-e")
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	check(t, os.Chmod(dir, 0o711))
	w := world{Dir: dir, Memory: filepath.Join(dir, "memory"), AgentSocket: filepath.Join(dir, "agent.sock"), Abstract: "wrenn-escape-" + filepath.Base(dir)}
	for name, mode := range map[string]os.FileMode{
		"memory": 0o440, "other-memory": 0o440, "other-disk": 0o600, "record.json": 0o600, "manifest.json": 0o600, "public": 0o666,
	} {
		check(t, os.WriteFile(w.file(name), []byte(secret), 0o600))
		check(t, os.Chown(w.file(name), 0, memoryGID))
		check(t, os.Chmod(w.file(name), mode))
	}
	listenUnix(t, w.AgentSocket)
	listenUnix(t, "@"+w.Abstract)
	w.TCP = listenTCP(t)
	w.VictimPID = startVictim(t)
	w.SharedID, err = unix.SysvShmGet(unix.IPC_PRIVATE, 4096, 0o666|unix.IPC_CREAT)
	check(t, err)
	t.Cleanup(func() { _, err := unix.SysvShmCtl(w.SharedID, unix.IPC_RMID, nil); check(t, err) })
	w.Cgroup = makeCgroup(t)
	// As a descriptor is that some library has opened without O_CLOEXEC.
	w.Leaked, err = unix.Open(w.file("other-disk"), unix.O_RDONLY, 0)
	check(t, err)
	t.Cleanup(func() { check(t, unix.Close(w.Leaked)) })
	return w
}

func listenUnix(t *testing.T, name string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	check(t, unix.Bind(fd, &unix.SockaddrUnix{Name: name}))
	check(t, unix.Listen(fd, 64))
	if !strings.HasPrefix(name, "@") {
		check(t, os.Chmod(name, 0o777))
	}
}

func listenTCP(t *testing.T) uint16 {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	check(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: netip.MustParseAddr("127.0.0.1").As4()}))
	check(t, unix.Listen(fd, 64))
	name, err := unix.Getsockname(fd)
	check(t, err)
	return uint16(name.(*unix.SockaddrInet4).Port)
}

// startVictim starts a process of the same user id outside the jail.
func startVictim(t *testing.T) int {
	t.Helper()
	in, hold, err := os.Pipe()
	check(t, err)
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{"victim"}, Env: []string{"SECRET=" + secret}, Stdin: in}
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	t.Cleanup(func() { check(t, hold.Close()); _ = cmd.Wait(); check(t, in.Close()) })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the victim did not start: %v", err)
	}
	return cmd.Process.Pid
}

// beVictim is another VM's process: it holds a secret and lives until its
// standard input ends. It changes its user id itself, so that it can be dumped.
func beVictim() {
	if err := unix.Setresuid(jailUID, jailUID, jailUID); err != nil {
		os.Exit(1)
	}
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	fmt.Println("ready")
	_, _ = os.Stdin.Read(make([]byte, 1))
	os.Exit(0)
}

func makeCgroup(t *testing.T) string {
	t.Helper()
	found, err := cgroupfs.Find()
	check(t, err)
	for _, top := range []string{found.Unified, found.V1["memory"]} {
		if top == "" {
			continue
		}
		if dir, err := os.MkdirTemp(top, "wrenn-escape"); err == nil {
			t.Cleanup(func() { check(t, os.Remove(dir)) })
			return dir
		}
	}
	return ""
}

// runOutside runs the attempts as root in the host's namespaces.
func runOutside(t *testing.T, w world) map[string]string {
	t.Helper()
	disk := makeDisk(t)
	leaked := os.NewFile(uintptr(dup(t, w.Leaked)), "leaked")
	defer leaked.Close()
	w.Disk, w.Leaked = 3, 4
	return results(t, &exec.Cmd{Path: "/proc/self/exe", Args: []string{"player", encode(t, w)}, ExtraFiles: []*os.File{disk, leaked}})
}

// runInside runs them in the jail, with the files and descriptors of a VM process.
func runInside(t *testing.T, w world) map[string]string {
	t.Helper()
	self, err := os.Executable()
	check(t, err)
	disk := makeDisk(t)
	w.Disk = 3
	cmd, err := launcher(t).Command(jail.Spec{
		Path: jail.ProgramDir + "/" + filepath.Base(self), Argv: []string{"player", encode(t, w)}, UID: jailUID, GID: jailUID, Groups: []int{memoryGID},
		FileBytes: 1 << 20,
		Binds: []jail.Bind{
			{From: filepath.Dir(self), To: jail.ProgramDir, Exec: true},
			{From: w.Memory, To: jail.Memory},
			{From: jail.Null, To: jail.Null, Write: true, Device: true},
		},
	}, disk)
	check(t, err)
	return results(t, cmd)
}

func makeDisk(t *testing.T) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "disk")
	check(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func dup(t *testing.T, fd int) int {
	t.Helper()
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	check(t, err)
	return n
}

func encode(t *testing.T, w world) string {
	t.Helper()
	data, err := json.Marshal(w)
	check(t, err)
	return string(data)
}

// results runs a player and returns, by attempt, why it failed, or "".
func results(t *testing.T, cmd *exec.Cmd) map[string]string {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	check(t, cmd.Start())
	if err := cmd.Wait(); err != nil {
		t.Fatalf("player: %v: %s", err, errs.String())
	}
	got := make(map[string]string)
	for line := range strings.Lines(out.String()) {
		name, res, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		got[name] = res
	}
	return got
}

// launcher builds the real launcher.
func launcher(t testing.TB) *jail.Launcher {
	t.Helper()
	path := os.Getenv("WRENN_TEST_JAIL")
	if path == "" {
		path = filepath.Join(t.TempDir(), "wrenn-jail")
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "github.com/wrenn-dev/wrenn/cmd/wrenn-jail")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build the launcher: %v: %s", err, out)
		}
	}
	data, err := os.ReadFile(path)
	check(t, err)
	l, err := jail.New(data)
	check(t, err)
	return l
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
