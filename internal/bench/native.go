package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// BareNative configures plain processes of this machine that have the files of a
// sandbox as their root.
type BareNative struct {
	// RootImage is the template of the sandboxes.
	RootImage string
}

// nativeSubject measures plain processes.
type nativeSubject struct {
	*recorder
	Options
	dir string
}

func newNativeSubject(o Options) *nativeSubject {
	s := &nativeSubject{recorder: newRecorder(Native, o.Note), Options: o}
	s.enter(Execs, Milliseconds, Measurement{Name: opExec, About: "start of true with another root"})
	s.enter(Programs, Milliseconds,
		Measurement{Name: opPython, About: "python3 -c 'print(1)' with another root"},
		Measurement{Name: opSum, About: "sum(range(10**7)) in Python, timed there"})
	s.enter(Transfers, MiBPerSecond,
		Measurement{Name: opUpload, About: "file through a pipe to cat"},
		Measurement{Name: opDownload, About: "the same file out again"})
	return s
}

// rows implements other.
func (s *nativeSubject) rows() *recorder { return s.recorder }

// prepare implements other. It unpacks the root.
func (s *nativeSubject) prepare(ctx context.Context) (err error) {
	if s.dir, err = os.MkdirTemp("/var/tmp", "wrenn-bench-native"); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "fsck.erofs", "--extract="+s.root(), "--preserve", s.Native.RootImage).CombinedOutput()
	if err != nil {
		return fmt.Errorf("fsck.erofs: %w: %.300s", err, bytes.TrimSpace(out))
	}
	return nil
}

func (s *nativeSubject) root() string { return filepath.Join(s.dir, "root") }

func (s *nativeSubject) close() error {
	if s.dir == "" {
		return nil
	}
	return os.RemoveAll(s.dir)
}

// run runs a program with the unpacked root.
func (s *nativeSubject) run(ctx context.Context, in io.Reader, out io.Writer, program string, args ...string) error {
	// The program is looked up in its root, not here.
	cmd := &exec.Cmd{Path: "/usr/bin/" + program, Args: append([]string{program}, args...), Dir: "/", Env: []string{"PATH=/usr/bin:/bin"}}
	cmd.Stdin, cmd.Stdout = in, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: s.root(), Pdeathsig: syscall.SIGKILL}
	if err := ctx.Err(); err != nil {
		return err
	}
	// Pdeathsig fires when the starting thread ends, so this goroutine keeps it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	return nil
}

// round implements other.
func (s *nativeSubject) round(ctx context.Context) {
	s.attempt(ctx, "programs", s.programs)
	if s.FileBytes > 0 {
		s.attempt(ctx, "transfers", s.transfer)
	}
}

// burst implements other. Processes have no creates.
func (s *nativeSubject) burst(context.Context) {}

func (s *nativeSubject) programs(ctx context.Context) error {
	for range execsPerRound {
		began := time.Now()
		if err := s.run(ctx, nil, nil, "true"); err != nil {
			return err
		}
		s.addTime(opExec, time.Since(began))
	}
	began := time.Now()
	if err := s.run(ctx, nil, nil, "python3", pythonArgs...); err != nil {
		return err
	}
	s.addTime(opPython, time.Since(began))
	var out bytes.Buffer
	if err := s.run(ctx, nil, &out, "python3", sumArgs...); err != nil {
		return err
	}
	took, err := sumTime(out.String())
	if err == nil {
		s.addTime(opSum, took)
	}
	return err
}

func (s *nativeSubject) transfer(ctx context.Context) error {
	const file = "/var/tmp/bench"
	return s.copyFile(s.FileBytes,
		func(in io.Reader) error { return s.run(ctx, in, nil, "sh", "-c", "cat >"+file) },
		func(out io.Writer) error { return s.run(ctx, nil, out, "cat", file) })
}
