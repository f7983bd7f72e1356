package gvisor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// sealed writes a snapshot to a new directory and returns both.
func sealed(t *testing.T) (dir string, like seal) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range savedFiles {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("content of "+name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	like = seal{Runtime: "aa", Agent: "bb", RootDigest: "cc", RootImage: "/images/root.erofs", MemoryMB: 256, DiskMB: 512}
	whole, err := newSeal(dir, like)
	if err == nil {
		err = whole.write(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir, like
}

func TestCheckNamesTheDamage(t *testing.T) {
	for _, name := range append([]string{sealFile}, savedFiles...) {
		for what, damage := range map[string]func(path string) error{
			"missing":   os.Remove,
			"truncated": func(path string) error { return errors.Join(os.Chmod(path, 0o600), os.Truncate(path, 3)) },
			"changed": func(path string) error {
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				data[len(data)/2] ^= 1
				return errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, data, 0o600))
			},
		} {
			dir, like := sealed(t)
			if err := check(dir, like); err != nil {
				t.Fatalf("a whole snapshot: %v", err)
			}
			if err := damage(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			err := check(dir, like)
			if name == sealFile && what == "changed" {
				// A changed letter of the seal is damage or another sandbox's.
				if err == nil {
					t.Errorf("a snapshot with a changed %s passed", name)
				}
				continue
			}
			if !errors.Is(err, vmm.ErrDamaged) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s %s: got %v, want ErrDamaged with its name", what, name, err)
			}
		}
	}
}

func TestCheckNamesTheDifference(t *testing.T) {
	for want, change := range map[string]func(*seal){
		"runtime was aa, is zz":                        func(s *seal) { s.Runtime = "zz" },
		"guest agent was bb, is zz":                    func(s *seal) { s.Agent = "zz" },
		"root image was cc, is zz":                     func(s *seal) { s.RootDigest = "zz" },
		"root image was /images/root.erofs, is /other": func(s *seal) { s.RootDigest, s.RootImage = "", "/other" },
		"memory_mb was 256, is 512":                    func(s *seal) { s.MemoryMB = 512 },
		"disk_mb was 512, is 1":                        func(s *seal) { s.DiskMB = 1 },
	} {
		dir, like := sealed(t)
		change(&like)
		err := check(dir, like)
		if f := fault.As(err); err == nil || f.Reason != "snapshot_incompatible" || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want snapshot_incompatible with %q", err, want)
		}
	}
}
