package datafs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childVariable makes the test binary open the place whose image and directory
// it names, one a line, print the outcome, and end.
const childVariable = "WRENN_TEST_DATAFS"

func TestMain(m *testing.M) {
	if image, dir, ok := strings.Cut(os.Getenv(childVariable), "\n"); ok {
		m, err := Place{Image: image, Dir: dir}.Open(context.Background(), MinSize)
		fmt.Println(m.Device, m.Made, err)
		return
	}
	os.Exit(m.Run())
}

// child is a process of a group of its own, in the mount namespace of the
// test, that opens p.
func child(t *testing.T, p Place) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	check(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childVariable+"="+p.Image+"\n"+p.Dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// TestProcessesOpenAtOnce: one makes it, all find one mount.
func TestProcessesOpenAtOnce(t *testing.T) {
	p := place(t)
	const n = 4
	children, outputs := make([]*exec.Cmd, n), make([]bytes.Buffer, n)
	for i := range children {
		children[i] = child(t, p)
		children[i].Stdout = &outputs[i]
		check(t, children[i].Start())
	}
	made, devices := 0, make(map[string]bool)
	for i, c := range children {
		check(t, c.Wait())
		fields := strings.Fields(outputs[i].String())
		if len(fields) != 3 || fields[2] != "<nil>" {
			t.Fatalf("a process got %q", outputs[i].String())
		}
		devices[fields[0]] = true
		if fields[1] == "true" {
			made++
		}
	}
	if made != 1 || len(devices) != 1 {
		t.Errorf("%d made it, on the devices %v", made, devices)
	}
	closed(t, p)
}

// TestKilled kills a process as soon as it has begun the image, and as soon as
// it has finished it. The next one continues from there.
func TestKilled(t *testing.T) {
	for event, mask := range map[string]uint32{"the image is begun": unix.IN_CREATE, "the image is there": unix.IN_MOVED_TO} {
		t.Run(event, func(t *testing.T) {
			p := place(t)
			check(t, os.Mkdir(p.Dir, 0o711))
			watch, err := unix.InotifyInit1(unix.IN_CLOEXEC)
			check(t, err)
			defer unix.Close(watch)
			release, err := p.lock(t.Context(), time.Minute) // its file is not the one to watch for
			check(t, err)
			release()
			_, err = unix.InotifyAddWatch(watch, filepath.Dir(p.Image), mask)
			check(t, err)
			c := child(t, p)
			check(t, c.Start())
			_, err = unix.Read(watch, make([]byte, 4096))
			check(t, err)
			check(t, unix.Kill(-c.Process.Pid, unix.SIGKILL)) // mkfs too
			_ = c.Wait()                                      // it may have been through already
			open(t, p)
			write(t, filepath.Join(p.Dir, "file"), "works")
			if left, err := filepath.Glob(p.Image + "*"); err != nil || len(left) != 2 { // with the lock
				t.Errorf("files of the image: got %v, %v; want the image and its lock", left, err)
			}
			closed(t, p)
		})
	}
}
