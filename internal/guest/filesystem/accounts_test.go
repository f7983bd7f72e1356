package filesystem

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

const passwd = `root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
broken line
alice:x:1000:1000::/home/alice:/bin/sh
alice:x:7:7::/second:/bin/sh
bad:x:notanumber:1::/:/bin/sh
last:x:1001:1001::/home/last:/bin/sh`

const group = `root:x:0:
sudo:x:27:alice,last
docker:x:999:alice,alice,nobody
alice:x:1000:alice
`

func newRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestLookup(t *testing.T) {
	a := NewAccounts(newRoot(t, map[string]string{"etc/passwd": passwd, "etc/group": group}))
	u, err := a.Lookup("alice")
	if err != nil || u.UID != 1000 || u.Home != "/home/alice" || !slices.Equal(u.Groups, []uint32{27, 999}) {
		t.Errorf("alice: %+v, %v", u, err)
	}
	for _, name := range []string{"bad", "nobody", "", "broken line"} {
		if _, err := a.Lookup(name); fault.ReasonOf(err) != ReasonUnknownUser || !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%q: %v", name, err)
		}
	}
	d, err := a.Read()
	if err != nil || d.Owner(1000) != "alice" || d.Owner(55) != "55" || d.Group(27) != "sudo" {
		t.Errorf("names: %v", err)
	}
}

func TestLookupInAnEmptyImage(t *testing.T) {
	u, err := NewAccounts(t.TempDir()).Lookup("root")
	if err != nil || u.UID != 0 || u.Home != "/root" {
		t.Errorf("%+v, %v", u, err)
	}
}

func TestEnsure(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to give files away")
	}
	root := newRoot(t, map[string]string{"etc/passwd": passwd, "etc/group": group, "etc/shadow": "root:*:1:0:99999:7:::\n"})
	a := NewAccounts(root)
	if _, err := a.Lookup("user"); err == nil {
		t.Fatal("user exists before")
	}
	user := User{Name: "user", UID: 1000, GID: 1500, Home: "/home/user", Shell: "/bin/sh"}
	for range 2 {
		if err := a.Ensure(user); err != nil {
			t.Fatal(err)
		}
	}
	got, err := a.Lookup("user")
	if err != nil || got.GID != 1500 || got.Home != "/home/user" {
		t.Errorf("%+v, %v", got, err)
	}
	for name, line := range map[string]string{"passwd": "user:x:1000:1500::/home/user:/bin/sh\n", "group": "user:x:1500:\n", "shadow": "user:*:"} {
		b, err := os.ReadFile(filepath.Join(root, "etc", name))
		if err != nil || strings.Count(string(b), "\n"+line) != 1 {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if fi, err := os.Stat(filepath.Join(root, "home/user")); err != nil || !fi.IsDir() {
		t.Errorf("home: %v", err)
	}
}

func TestEnsureRefusesInjection(t *testing.T) {
	a := NewAccounts(t.TempDir())
	for _, u := range []User{
		{Name: "a:b", Home: "/", Shell: "/bin/sh"},
		{Name: "a\nroot2:x:0:0", Home: "/", Shell: "/bin/sh"},
		{Name: "", Home: "/", Shell: "/bin/sh"},
		{Name: "1a", Home: "/", Shell: "/bin/sh"},
		{Name: strings.Repeat("a", 33), Home: "/", Shell: "/bin/sh"},
		{Name: "a", Home: "/x:y", Shell: "/bin/sh"},
		{Name: "a", Home: "relative", Shell: "/bin/sh"},
		{Name: "a", Home: "/", Shell: "/bin/sh\nroot2:x:0:0::/:/bin/sh"},
	} {
		if err := a.Ensure(u); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", u, err)
		}
	}
}
