package process

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// lookup returns the file that spec.Cmd names: a path taken from spec.Dir, or
// the first executable of that name in the PATH of spec.Env.
func lookup(spec *Spec) (string, error) {
	if strings.Contains(spec.Cmd, "/") {
		path := spec.Cmd
		if !filepath.IsAbs(path) {
			path = filepath.Join(spec.Dir, path)
		}
		return path, nil
	}
	for _, dir := range filepath.SplitList(pathOf(spec.Env)) {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(spec.Dir, dir)
		}
		path := filepath.Join(dir, spec.Cmd)
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", notFound(spec.Cmd, nil)
}

// pathOf returns the last PATH in env, as execvp(3) of most shells would.
func pathOf(env []string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(env[i], "PATH="); ok {
			return v
		}
	}
	return ""
}

// checkDir checks the working directory before the start, because the kernel's
// error of a failed start is the same for a bad directory and a bad command.
func checkDir(dir string) error {
	fi, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fault.Wrap(err, fault.Invalid, "invalid_cwd", "cwd '%s' does not exist", dir)
	case err != nil:
		return fault.Wrap(err, fault.Invalid, "invalid_cwd", "cwd '%s' cannot be used", dir)
	case !fi.IsDir():
		return fault.New(fault.Invalid, "invalid_cwd", "cwd '%s' is not a directory", dir)
	}
	return nil
}

// startFault returns an error of fork or exec for cmd as a fault.
func startFault(cmd string, err error) error {
	switch {
	// First, because a joined error also holds the cause, such as a missing cgroup.
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM):
		return fault.Wrap(err, fault.Quota, "guest_exhausted", "the sandbox has no memory or process numbers left")
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR):
		return notFound(cmd, err)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOEXEC),
		errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENAMETOOLONG):
		return fault.Wrap(err, fault.Invalid, "command_not_executable", "command '%s' cannot be executed: check its permissions and its format, and that the user may enter cwd", cmd)
	case errors.Is(err, syscall.E2BIG):
		return fault.Wrap(err, fault.TooLarge, "command_too_large", "arguments and environment are larger than the kernel takes")
	default:
		return fault.Wrap(err, fault.Internal, "start_failed", "the command could not be started")
	}
}

func notFound(cmd string, cause error) error {
	return fault.Wrap(cause, fault.Invalid, "command_not_found", "command '%s' was not found, or its interpreter was not", cmd)
}
