package pgserver

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// account is the user the server runs as. PostgreSQL refuses to run as root,
// so root hands it to an unprivileged user; anyone else runs it themselves.
type account struct {
	uid, gid uint32
	// drop says that the account is not this process's own.
	drop bool
}

// accountFor returns the account for the cluster in dataDir: its owner if it
// exists, else the postgres user of the distribution, else nobody.
func accountFor(dataDir string) (account, error) {
	self := account{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}
	st, err := os.Stat(dataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && self.uid != 0:
		return self, nil
	case errors.Is(err, fs.ErrNotExist):
		return unprivileged()
	case err != nil:
		return account{}, fault.Wrap(err, fault.Invalid, "postgres_dir", "cannot use the directory %s", dataDir)
	}
	owner := st.Sys().(*syscall.Stat_t)
	switch {
	case owner.Uid == 0:
		return account{}, fault.New(fault.WrongState, "postgres_owner",
			"%s belongs to root, and PostgreSQL does not run as root: run `chown -R postgres: %s`", dataDir, quoted(dataDir))
	case self.uid == 0:
		return account{uid: owner.Uid, gid: owner.Gid, drop: true}, nil
	case owner.Uid != self.uid:
		return account{}, fault.New(fault.WrongState, "postgres_owner",
			"%s belongs to user id %d: run wrenn as that user or as root, or choose another data directory", dataDir, owner.Uid)
	}
	return self, nil
}

func unprivileged() (account, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if uidErr == nil && gidErr == nil && uid != 0 {
			return account{uid: uint32(uid), gid: uint32(gid), drop: true}, nil
		}
	}
	return account{}, fault.New(fault.Unsupported, "postgres_user",
		"there is no user to run PostgreSQL as: run `adduser --system --group postgres`")
}

// confine makes cmd run as a in dir, with an environment of its own and in a
// process group of its own: a Ctrl-C at the terminal reaches us, and we stop
// the server in its turn.
func (a account) confine(cmd *exec.Cmd, dir string) {
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC", "HOME=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if a.drop {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
}

// mkdir makes dir for a alone. Its parent belongs to this process, so that
// nobody can have put a link in its place.
func (a account) mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fault.Wrap(err, fault.Internal, "postgres_dir", "cannot make the directory %s", dir)
	}
	if !a.drop {
		return nil
	}
	if err := os.Lchown(dir, int(a.uid), int(a.gid)); err != nil {
		return fault.Wrap(err, fault.Internal, "postgres_dir", "cannot give the directory %s to user id %d", dir, a.uid)
	}
	return nil
}

// unreachable is the fault for a dir that a may not enter. It names the
// directory on the way that stops it, as far as mode bits tell.
func (a account) unreachable(dir string, cause error) error {
	blocker := dir
	for d := dir; ; d = filepath.Dir(d) {
		if st, err := os.Stat(d); err == nil && !a.mayEnter(st) {
			blocker = d
		}
		if d == filepath.Dir(d) {
			break
		}
	}
	return fault.Wrap(cause, fault.Invalid, "postgres_unreachable",
		"PostgreSQL runs as user id %d, which may not enter %s: run `chmod o+x %s`, or choose another data directory",
		a.uid, blocker, quoted(blocker))
}

func (a account) mayEnter(st fs.FileInfo) bool {
	owner := st.Sys().(*syscall.Stat_t)
	switch mode := st.Mode().Perm(); {
	case owner.Uid == a.uid:
		return mode&0o100 != 0
	case owner.Gid == a.gid:
		return mode&0o010 != 0
	default:
		return mode&0o001 != 0
	}
}

// quoted writes a path as a shell has to read it.
func quoted(path string) string {
	if !strings.ContainsAny(path, " \t\n'\"\\$`!*?[]{}()<>|&;#~") {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
