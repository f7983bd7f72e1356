package doctor

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/network/netnstest"
)

// TestHiddenNames expects an agent's names that "ip netns add" has hidden to be
// found, and the printed fix to work.
func TestHiddenNames(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if !netnstest.PrivateMounts(t) {
		return
	}
	if c := checkHidden(); c.Status != OK || c.Fix != "" {
		t.Fatalf("without any names: %+v", c)
	}
	if err := os.MkdirAll(netnstest.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	names := []string{"wrenn-0001", "w01234567-0abc"}
	for _, name := range names {
		path := filepath.Join(netnstest.Dir, name)
		if err := os.WriteFile(path, []byte("wrenn-owner=wrenn sandbox=x"), 0o444); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("/proc/self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	netnstest.Add(t, "stranger")
	if c := checkHidden(); c.Status != OK {
		t.Fatalf("names of namespaces that may be in use: %+v", c)
	}
	for _, name := range names {
		if err := unix.Unmount(filepath.Join(netnstest.Dir, name), 0); err != nil {
			t.Fatal(err)
		}
	}
	c := checkHidden()
	if c.Status != Warn || !strings.Contains(c.Found, names[0]) || !strings.Contains(c.Found, names[1]) || strings.Contains(c.Found, "stranger") {
		t.Fatalf("with two hidden names: %+v", c)
	}
	if out, err := exec.Command("sh", "-c", c.Fix).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", c.Fix, err, out)
	}
	if c := checkHidden(); c.Status != OK {
		t.Errorf("after the fix: %+v", c)
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(netnstest.Dir, name)); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(netnstest.Dir, "stranger")); err != nil {
		t.Errorf("the fix removed somebody else's name: %v", err)
	}
}
