package boot

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// rootDir returns a root directory with an empty /etc.
func rootDir(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	return root
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestOwnFile: put replaces any change that programs made to the file.
func TestOwnFile(t *testing.T) {
	remake := func(make func(path string) error) func(string) error {
		return func(path string) error {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			return make(path)
		}
	}
	meddling := map[string]func(path string) error{
		"nothing":             func(string) error { return nil },
		"removed":             os.Remove,
		"a file of their own": remake(func(path string) error { return os.WriteFile(path, []byte("own"), 0o600) }),
		"a directory":         remake(func(path string) error { return os.MkdirAll(path+"/sub", 0o755) }),
		"a pipe":              remake(func(path string) error { return unix.Mkfifo(path, 0o600) }),
		"a link elsewhere":    remake(func(path string) error { return os.Symlink("/nowhere", path) }),
		"written in place":    func(path string) error { return os.WriteFile(path, []byte("a much longer content than ours"), 0o644) },
	}
	for name, meddle := range meddling {
		for _, where := range []string{"etc/name", ownDir + "/name"} {
			root := rootDir(t)
			f := newOwnFile(root, "name", 0o644)
			for _, content := range []string{"first, and long\n", "second\n"} {
				if err := f.put(content); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if got := read(t, root+"/etc/name"); got != content || !f.untouched() {
					t.Errorf("%s of %s: got %q, want %q", name, where, got, content)
				}
				if name == "a directory" && where == "etc/name" {
					break // a directory of theirs in /etc is not removed
				}
				if err := meddle(filepath.Join(root, where)); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if name != "nothing" && f.untouched() {
					t.Errorf("%s of %s was not noticed", name, where)
				}
			}
			if err := f.put("last\n"); err != nil {
				t.Fatalf("%s of %s: %v", name, where, err)
			}
			if got := read(t, root+"/etc/name"); got != "last\n" {
				t.Errorf("%s of %s: %q", name, where, got)
			}
		}
	}
}

// TestHostsKeepsWhatProgramsAdded: in place, or in a file of their own.
func TestHostsKeepsWhatProgramsAdded(t *testing.T) {
	root := rootDir(t)
	hosts := filepath.Join(root, "etc/hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost\n192.0.2.1 image\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	id := NewIdentity(root)
	check := func(name, want string) {
		t.Helper()
		if err := id.writeHostname(name); err != nil {
			t.Fatal(err)
		}
		if got := read(t, hosts); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	check("one", "127.0.0.1 localhost\n192.0.2.1 image\n127.0.1.1\tone # wrenn\n")
	check("second", "127.0.0.1 localhost\n192.0.2.1 image\n127.0.1.1\tsecond # wrenn\n")
	f, err := os.OpenFile(hosts, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("192.0.2.2 added\n"); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	check("three", "127.0.0.1 localhost\n192.0.2.1 image\n192.0.2.2 added\n127.0.1.1\tthree # wrenn\n")
	if err := os.Remove(hosts); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(hosts, []byte("192.0.2.3 theirs\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	check("four", "192.0.2.3 theirs\n"+localhost+"127.0.1.1\tfour # wrenn\n")
	// An agent that was started again knows nothing, and finds the same.
	id = NewIdentity(root)
	check("five", "192.0.2.3 theirs\n"+localhost+"127.0.1.1\tfive # wrenn\n")
}
