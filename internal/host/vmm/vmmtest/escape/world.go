package escape

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/linux/cgroupfs"
)

const secret = "another sandbox's secret"

// World lists the targets of an escaped VM. It travels as JSON to the players.
type World struct {
	UID         int    // of the process that tries, and of another sandbox's
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
	Only        string // the only attempt to make, or "" for all
	Stand       Stand  // of the player
}

func (w World) file(name string) string { return filepath.Join(w.Dir, name) }

// New makes a host with another sandbox on it, whose process has the user id uid and
// whose memory the group gid may read. Nothing but the confinement is between that and
// a player with these ids.
func New(t *testing.T, uid, gid int) World {
	t.Helper()
	needHook(t)
	dir, err := os.MkdirTemp("/var/tmp", "wrenn-e")
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	check(t, os.Chmod(dir, 0o711))
	w := World{UID: uid, Dir: dir, Memory: filepath.Join(dir, "memory"), AgentSocket: filepath.Join(dir, "agent.sock"), Abstract: "wrenn-escape-" + filepath.Base(dir)}
	for name, mode := range map[string]os.FileMode{
		"memory": 0o440, "other-memory": 0o440, "other-disk": 0o600, "record.json": 0o600, "manifest.json": 0o600, "public": 0o666,
	} {
		check(t, os.WriteFile(w.file(name), []byte(secret), 0o600))
		check(t, os.Chown(w.file(name), 0, gid))
		check(t, os.Chmod(w.file(name), mode))
	}
	listenUnix(t, w.AgentSocket)
	listenUnix(t, "@"+w.Abstract)
	w.TCP = listenTCP(t)
	w.VictimPID = startVictim(t, uid)
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
func startVictim(t *testing.T, uid int) int {
	t.Helper()
	in, hold, err := os.Pipe()
	check(t, err)
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{"victim", strconv.Itoa(uid)}, Env: []string{"SECRET=" + secret}, Stdin: in}
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
func beVictim(args []string) {
	if len(args) == 0 {
		return
	}
	uid, err := strconv.Atoi(args[0])
	if err != nil || unix.Setresuid(uid, uid, uid) != nil {
		os.Exit(1)
	}
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	fmt.Println("ready")
	_, _ = os.Stdin.Read(make([]byte, 1))
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

// Disk makes the file that a player gets as its disk.
func Disk(t *testing.T) *os.File {
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

// encode returns the argument of a player.
func (w World) encode(t *testing.T) string {
	t.Helper()
	data, err := json.Marshal(w)
	check(t, err)
	return string(data)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
