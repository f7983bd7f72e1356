package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestKeepKey checks that quickstart leaves the user of sudo a copy of the
// server's key that no other user can read and that "wrenn" finds.
func TestKeepKey(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can act for another user")
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("", "wrenn-keep-") // not t.TempDir, which others cannot enter
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	home, data, bin := filepath.Join(dir, "home"), filepath.Join(dir, "data"), filepath.Join(dir, "bin")
	for _, err := range []error{
		os.Chmod(dir, 0o711), os.Mkdir(home, 0o700), os.Chown(home, nobody, nobody), os.Mkdir(data, 0o711), os.Mkdir(bin, 0o755),
		writeSecret(filepath.Join(data, "api-key"), "wrn_secret"),
		// The home of the user in this test.
		os.WriteFile(filepath.Join(bin, "getent"), []byte("#!/bin/sh\necho nobody:x:65534:65534::"+home+":/bin/sh\n"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	keep := func(env ...string) string {
		cmd := exec.Command("bash", "-c", `. ../../scripts/lib.sh; keep_key "$1"`, "-", data)
		cmd.Env = append(os.Environ(), append(env, "PATH="+bin+":"+os.Getenv("PATH"))...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("keep_key: %v", err)
		}
		return strings.TrimSpace(string(out))
	}
	if got, want := keep("SUDO_USER="), filepath.Join(data, "api-key"); got != want {
		t.Errorf("root is told %s, want %s", got, want)
	}
	for range 2 { // a stale copy is replaced
		copied := keep("SUDO_USER=nobody", "XDG_CONFIG_HOME=/root/.config")
		if want := filepath.Join(home, ".config", "wrenn", "api-key"); copied != want {
			t.Fatalf("a user is told %s, want %s", copied, want)
		}
		st, err := os.Stat(copied)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(copied)
		if err != nil || strings.TrimSpace(string(raw)) != "wrn_secret" {
			t.Errorf("the copy holds %q (%v)", raw, err)
		}
		if owner := st.Sys().(*syscall.Stat_t).Uid; st.Mode() != 0o600 || owner != nobody {
			t.Errorf("the copy has the mode %v and the owner %d, want -rw------- and %d", st.Mode(), owner, nobody)
		}
	}
}
