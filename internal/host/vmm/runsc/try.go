package runsc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

// tryTimeout bounds Try, which takes some 100 ms on an idle machine.
const tryTimeout = time.Minute

// tried is the program that Try runs in a sandbox.
const tried = "/bin/true"

// Try runs a program of this machine in a sandbox without a network, as root. A
// container or the kernel's settings may forbid a part of that, such as ptrace(2).
// Nothing is left behind. The error is of kind Unsupported, reason "vmm_unusable".
func (in Installed) Try(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "wrenn-runsc")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	args := append(sidecarFlags(len(in.SidecarNames) > 0),
		"--root="+dir, "--platform=systrap", "--network=none", "--ignore-cgroups", "do", tried)
	cmd := exec.CommandContext(ctx, in.Path, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR=" + dir}
	// Its mounts end with it, and a kill reaches all of its processes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	first := untrusted.Line(string(out), messageBytes)
	return fault.Wrap(fmt.Errorf("%w: %s", errors.Join(err, context.Cause(ctx)), first), fault.Unsupported, "vmm_unusable",
		"runsc %s cannot run a program in a sandbox on this machine (%s)", in.Version, first)
}
