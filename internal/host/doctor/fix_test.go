package doctor

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/datafs"
)

func TestFixesAreTypedAsTheyAre(t *testing.T) {
	if got, want := (Config{}).command("image build"), "wrenn image build"; got != want {
		t.Errorf("default: got %q, want %q", got, want)
	}
	cfg := Config{Program: "/home/a b/bin/wrenn", DataDirFlag: "/data of/mine"}
	if got, want := cfg.command("image build"), "'/home/a b/bin/wrenn' image build --data-dir '/data of/mine'"; got != want {
		t.Errorf("elsewhere: got %q, want %q", got, want)
	}
	for _, c := range []struct {
		fix  string
		uid  int
		want string
	}{
		{"modprobe tun", 0, "modprobe tun"},
		{"modprobe tun", 1000, "sudo modprobe tun"},
		{"a && b 'c'", 1000, `sudo sh -c 'a && b '\''c'\'''`},
		{"sudo wrenn doctor", 1000, "sudo wrenn doctor"},
		{"export WRENN_LISTEN=127.0.0.1:8081", 1000, "export WRENN_LISTEN=127.0.0.1:8081"},
		{"", 1000, ""},
	} {
		if got := asTyped(c.fix, c.uid); got != c.want {
			t.Errorf("%q for user %d: got %q, want %q", c.fix, c.uid, got, c.want)
		}
	}
	if got := Quote(`it's`); got != `'it'\''s'` {
		t.Errorf("Quote: got %s", got)
	}
}

// TestFixesAreShellCommands has a shell read every fix that a machine without
// QEMU and images is given.
func TestFixesAreShellCommands(t *testing.T) {
	dir := t.TempDir()
	checks := Run(t.Context(), Config{
		Data: datafs.Place{Image: filepath.Join(dir, "x.xfs"), Dir: filepath.Join(dir, "x")}, ImageDir: filepath.Join(dir, "images"),
		QEMU: "no-such-qemu", Program: "/a b/wrenn", DataDirFlag: dir,
	})
	fixes := 0
	for _, c := range checks {
		if c.Fix == "" {
			continue
		}
		fixes++
		if out, err := exec.Command("sh", "-n", "-c", c.Fix).CombinedOutput(); err != nil {
			t.Errorf("%s: no shell command: %s: %s", c.Name, c.Fix, out)
		}
	}
	if fixes < 2 {
		t.Errorf("only %d fixes for a machine without QEMU and images", fixes)
	}
}

func TestPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	if c := checkPort(taken, os.Getpid()); c.Status != OK || !strings.Contains(c.Found, "this installation") {
		t.Errorf("served by this process: got %+v, want ok", c)
	}
	for _, own := range []int{0, 1} {
		c := checkPort(taken, own)
		if c.Status != Fail || !strings.Contains(c.Found, fmt.Sprintf("(process %d)", os.Getpid())) || !strings.HasPrefix(c.Fix, "export WRENN_LISTEN=127.0.0.1:") {
			t.Errorf("taken by another process than %d: got %+v, want its name and another address", own, c)
		}
	}
	if c := checkPort("192.0.2.200:80", 0); c.Status != Fail || c.Fix == "" {
		t.Errorf("an address of another machine: got %+v, want fail", c)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if c := checkPort(taken, 0); c.Status != OK {
		t.Errorf("free: got %+v, want ok", c)
	}
}

func TestListeningReadsBothFamilies(t *testing.T) {
	for line, want := range map[string]string{
		"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1 0":         "127.0.0.1",
		"   1: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 77 1 0": "::1",
	} {
		inode, addr, ok := listening(line, 8080)
		if !ok || inode != "77" || addr.String() != want {
			t.Errorf("%q: got %s %s %t, want 77 %s", line, inode, addr, ok, want)
		}
	}
	if _, _, ok := listening("   0: 0100007F:1F90 0100007F:9999 01 0:0 0:0 0 0 0 77 1 0", 8080); ok {
		t.Error("a connection counts as a listener")
	}
}
