package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/datafs"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"512M": 512 << 20, "200G": 200 << 30, "1T": 1 << 40, "7g": 7 << 30, "0M": 0,
		"200": -1, "G": -1, "-1G": -1, "1.5G": -1, "1 G": -1, "9999999999T": -1, "1GB": -1, "1GG": -1, "": -1, "ıM": -1,
	} {
		got, err := parseSize(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// TestDataFileSystem starts and stops a server with a file system of its own
// several times.
func TestDataFileSystem(t *testing.T) {
	if _, err := exec.LookPath("/sbin/mkfs.xfs"); os.Geteuid() != 0 || err != nil {
		if slices.Contains(strings.Split(os.Getenv("WRENN_REQUIRE"), ","), "root") {
			t.Fatal("this needs root and xfsprogs")
		}
		t.Skip("this needs root and xfsprogs")
	}
	dirs := layout{t.TempDir()}
	runtime.LockOSThread() // never unlocked: the thread and its mounts end with the test
	if err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dirs.host(), unix.MNT_DETACH) })
	start := func(kind string) (log string, err error) {
		var out bytes.Buffer
		s := dataFSSettings{kind: kind, sizeBytes: datafs.MinSize}
		err = s.prepare(context.Background(), dirs, slog.New(slog.NewTextHandler(&out, nil)))
		return out.String(), err
	}
	mounted := func() bool {
		var st unix.Statfs_t
		return unix.Statfs(dirs.host(), &st) == nil && st.Type == unix.XFS_SUPER_MAGIC
	}

	if log, err := start(dataFSXFS); err != nil || !mounted() || !strings.Contains(log, "made=true") || !strings.Contains(log, "reflink=true") {
		t.Fatalf("the first start: %v\n%s", err, log)
	}
	if log, err := start(dataFSAuto); err != nil || !strings.Contains(log, "was_mounted=true") {
		t.Errorf("a second start: %v\n%s", err, log)
	}
	if _, err := start(dataFSNone); fault.ReasonOf(err) != "data_fs_exists" {
		t.Errorf("--data-fs none beside a file system: %v", err)
	}
	vm, err := os.Create(filepath.Join(dirs.host(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	if got := wrenn(t, nil, "down", "--data-dir", dirs.root); got.code != 0 || !mounted() || !strings.Contains(got.err, "stays mounted") {
		t.Errorf("down while it is in use: %+v", got)
	}
	if err := vm.Close(); err != nil {
		t.Fatal(err)
	}
	if got := wrenn(t, nil, "down", "--data-dir", dirs.root); got.code != 0 || mounted() {
		t.Errorf("down: %+v", got)
	}
	if log, err := start(dataFSAuto); err != nil || !mounted() {
		t.Errorf("a start after down: %v\n%s", err, log)
	}
	if err := dirs.dataFS().Close(); err != nil {
		t.Error(err)
	}
}

func TestDirectoryAsItIs(t *testing.T) {
	dirs := layout{t.TempDir()}
	for _, kind := range []string{dataFSAuto, dataFSNone} {
		var out bytes.Buffer
		s := dataFSSettings{kind: kind}
		if err := s.prepare(t.Context(), dirs, slog.New(slog.NewTextHandler(&out, nil))); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), "reflink=") {
			t.Errorf("the log does not say whether copies share blocks: %s", out.String())
		}
		if exists, err := dirs.dataFS().Exists(); err != nil || exists {
			t.Errorf("--data-fs %s made a file system (%v)", kind, err)
		}
	}
}
