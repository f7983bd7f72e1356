package jail_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/vmm/jail"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/vmmtest/escape"
)

// Ids of the test's processes. The victim has the same as the one in the jail:
// nothing but the jail is between them.
const (
	jailUID   = 699_998
	memoryGID = 0x70000001
)

func TestMain(m *testing.M) {
	escape.MaybeChild()
	if os.Args[0] == "nothing" {
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestEscapeFindsNothing runs attempts to leave the jail from a process in it,
// as a VMM would be that was taken over before it narrowed its filter. The same
// attempts are run by root outside, which shows that each of them can succeed.
func TestEscapeFindsNothing(t *testing.T) {
	needRoot(t)
	w := escape.New(t, jailUID, memoryGID)
	escape.Judge(t, runInside(t, w), escape.Outside(t, w), nil)
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

// runInside runs them in the jail, with the files and descriptors of a VM process.
func runInside(t *testing.T, w escape.World) map[string]string {
	t.Helper()
	self, err := os.Executable()
	check(t, err)
	disk := escape.Disk(t)
	w.Disk = 3
	cmd, err := launcher(t).Command(jail.Spec{
		Path: jail.ProgramDir + "/" + filepath.Base(self), Argv: w.Player(t), UID: jailUID, GID: jailUID, Groups: []int{memoryGID},
		FileBytes: 1 << 20,
		Binds: []jail.Bind{
			{From: filepath.Dir(self), To: jail.ProgramDir, Exec: true},
			{From: w.Memory, To: jail.Memory},
			{From: jail.Null, To: jail.Null, Write: true, Device: true},
		},
	}, disk)
	check(t, err)
	return escape.Results(t, cmd)
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
