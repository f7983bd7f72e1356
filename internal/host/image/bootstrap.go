package image

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/statfs"
)

// Suite is the Debian release that guest kernels and the built-in templates
// come from. Its kernel boots fastest under software emulation.
const Suite = "bookworm"

// suiteEpoch is the time, in seconds since 1970, that every file of an image
// carries: the day of the suite's release. Zero would do but for tools such
// as zip, which refuse times before 1980.
const suiteEpoch = "1686355200"

// tailLines is how much of a failed tool's output an error keeps.
const tailLines = 12

// bootstrap is one run of mmdebstrap.
type bootstrap struct {
	suite   string
	variant string
	args    []string
	target  string // a directory to fill, or /dev/null
	workDir string // for temporary files; removed by the caller
}

// run runs mmdebstrap as PID 1 of its own PID namespace and in its own mount
// namespace, so that neither a process nor a mount can be left behind,
// however it ends.
func (s *Store) run(ctx context.Context, b bootstrap, progress Progress) error {
	if err := requireTools("mmdebstrap", "apt-get", "apt-config"); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return fault.New(fault.Forbidden, "not_root", "images are built as root; run the command again with sudo")
	}
	conf := filepath.Join(b.workDir, "apt.conf")
	dump, err := exec.CommandContext(ctx, "apt-config", "dump").Output()
	if err != nil {
		return fmt.Errorf("apt-config: %w", err)
	}
	if err := os.WriteFile(conf, []byte(acquireOptions(string(dump))), 0o600); err != nil {
		return err
	}
	archive := s.archive
	if archive.Mirror == "" {
		archive = hostArchive("/etc/apt")
	}
	args := []string{"--mode=root", "--verbose", "--variant=" + b.variant, "--architectures=amd64", "--aptopt=" + conf}
	args = append(append(args, b.args...), b.suite, b.target)
	args = append(args, archive.lines(b.suite)...)
	stage, tail, err := s.runTool(ctx, b.workDir, progress, append([]string{"mmdebstrap"}, args...)...)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case s.lowSpace(b.workDir):
		return diskFull(s.dir, err)
	case !errors.As(err, new(*exec.ExitError)):
		return fault.Wrap(err, fault.Unsupported, "no_namespaces",
			"images are built in mount and PID namespaces, and this machine or container does not let them be made")
	}
	from := archive.Mirror
	if from == "" {
		from = "Debian's default mirror"
	}
	s.log.Error("mmdebstrap failed", "stage", stage, "output", strings.Join(tail, "\n"))
	return fault.Wrap(err, fault.HostFailed, "archive_failed",
		"Debian packages could not be fetched or unpacked (at %q). Check that this machine reaches %s and that its clock is right, "+
			"or name another mirror in WRENN_DEBIAN_MIRROR, then try again. The last words were: %s",
		stage, from, strings.Join(tail, " / "))
}

// runTool runs a program in namespaces of its own and reports its output. It
// returns the last stage the program announced and the end of its output.
func (s *Store) runTool(ctx context.Context, dir string, progress Progress, argv ...string) (stage string, tail []string, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return "", nil, err
	}
	defer r.Close()
	// The shell is there for the umask alone: images must not depend on the caller's.
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", `umask 022; exec "$@"`, "sh"}, argv...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, w, w
	cmd.Env = append(toolEnv(), "HOME=/root", "LC_ALL=C.UTF-8",
		"TMPDIR="+dir, "SOURCE_DATE_EPOCH="+suiteEpoch, "DEBIAN_FRONTEND=noninteractive")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID, Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL,
	}
	cmd.WaitDelay = 5 * time.Second
	// Pdeathsig fires when the starting thread ends, so that one is kept.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s.log.Debug("running", "argv", argv)
	err = cmd.Start()
	w.Close()
	if err != nil {
		return "", nil, err
	}
	stage, tail = follow(r, progress)
	return stage, tail, cmd.Wait()
}

// follow reads a tool's output to its end and passes on the lines that a person would
// want to see.
func follow(r io.Reader, progress Progress) (stage string, tail []string) {
	lines := bufio.NewReaderSize(r, 4096)
	for {
		raw, _, err := lines.ReadLine() // a longer line comes in pieces, which is good enough
		if err != nil {
			return stage, tail
		}
		line := strings.TrimSpace(string(raw))
		if line == "" {
			continue
		}
		if tail = append(tail, line); len(tail) > tailLines {
			tail = tail[1:]
		}
		said, announced := strings.CutPrefix(line, "I: ")
		if announced {
			stage, _, _ = strings.Cut(said, " in shell:") // hooks are announced with all their text
		}
		switch {
		case announced:
			progress.report("install", stage)
		case strings.HasPrefix(line, "Get:"):
			progress.report("download", line)
		case strings.HasPrefix(line, "Unpacking "), strings.HasPrefix(line, "Setting up "):
			progress.report("install", line)
		}
	}
}

// toolEnv returns those of the caller's variables that a build may see: its
// proxies, and its PATH with the places that mmdebstrap needs as root.
func toolEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		name, value, _ := strings.Cut(kv, "=")
		switch {
		case name == "PATH":
			env = append(env, "PATH="+value+":/usr/sbin:/usr/bin:/sbin:/bin")
		case strings.HasSuffix(strings.ToLower(name), "_proxy"):
			env = append(env, kv)
		}
	}
	return env
}

// requireTools returns a fault that says how to install a missing tool.
func requireTools(names ...string) error {
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			return fault.Wrap(err, fault.Unsupported, "tool_missing",
				"%s is not installed here and images cannot be built without it; run 'make setup', or install the package that has it", name)
		}
	}
	return nil
}

// lowWater is the free space, in bytes, under which a failed build is blamed
// on the disk.
const lowWater = 64 << 20

func freeBytes(dir string) (uint64, error) {
	fs, err := statfs.Path(dir)
	return fs.Available, err
}

func (s *Store) lowSpace(dir string) bool {
	free, err := s.free(dir)
	return err == nil && free < lowWater
}

func diskFull(dir string, cause error) error {
	return fault.Wrap(cause, fault.NoCapacity, "disk_full", "the disk that holds %s is full; free some space and try again", dir)
}

// requireSpace checks that need bytes are free before a build begins.
func (s *Store) requireSpace(need uint64) error {
	free, err := s.free(s.dir)
	if err != nil {
		return err
	}
	if free < need {
		return fault.New(fault.NoCapacity, "disk_full", "preparing this needs %d MB free on the disk that holds %s, which has %d MB",
			need>>20, s.dir, free>>20)
	}
	return nil
}

// noSpace turns an ENOSPC anywhere in err's chain into the fault for it.
func (s *Store) noSpace(err error) error {
	if errors.Is(err, unix.ENOSPC) {
		return diskFull(s.dir, err)
	}
	return err
}
