package pgserver

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/durable"
)

// clusterMajor returns the major version that made the cluster, 0 when there
// is none yet.
func (s *Server) clusterMajor() (int, error) {
	raw, err := os.ReadFile(filepath.Join(s.cfg.dataDir(), "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(s.cfg.dataDir()); err == nil {
			return 0, s.notACluster(nil)
		}
		return 0, nil
	}
	if err != nil {
		return 0, s.notACluster(err)
	}
	whole, _, _ := strings.Cut(strings.TrimSpace(string(raw)), ".") // "9.6" before version 10
	major, err := strconv.Atoi(whole)
	if err != nil {
		return 0, s.notACluster(err)
	}
	return major, nil
}

func (s *Server) notACluster(cause error) error {
	return fault.Wrap(cause, fault.WrongState, "postgres_cluster",
		"%s exists and is no PostgreSQL cluster: move it away, or choose another data directory", s.cfg.dataDir())
}

// ensureCluster makes the cluster if there is none. It is made beside its
// place and renamed into it, so that a crash never leaves half of one.
func (s *Server) ensureCluster(ctx context.Context) error {
	if _, err := os.Lstat(s.cfg.dataDir()); err == nil {
		return nil
	}
	fresh := s.cfg.dataDir() + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fault.Wrap(err, fault.Internal, "postgres_dir", "cannot remove the unfinished %s", fresh)
	}
	if err := s.acct.mkdir(fresh); err != nil {
		return err
	}
	s.log.Info("making the database", "dir", s.cfg.Dir, "postgres", s.bin.version)
	if err := s.initCluster(ctx, fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, s.cfg.dataDir()); err != nil {
		return fault.Wrap(err, fault.Internal, "postgres_dir", "cannot put the new database in its place")
	}
	return durable.Sync(s.cfg.Dir)
}

// initCluster makes a cluster in dir, with one superuser and one database.
//
// Connections are trusted because only the owner of the socket's directory
// and root can make one, and both can read the files themselves.
func (s *Server) initCluster(ctx context.Context, dir string) error {
	args := []string{
		"--pgdata", dir, "--username", Role, "--auth-local", "trust", "--auth-host", "reject",
		"--encoding", "UTF8", "--locale", "C.UTF-8",
	}
	if s.cfg.Temporary {
		args = append(args, "--no-sync")
	}
	if err := s.tool(ctx, dir, "", "initdb", args...); err != nil {
		return err
	}
	// The single-user server runs statements without a socket and without
	// another program.
	return s.tool(ctx, dir, "CREATE DATABASE "+Database+" OWNER "+Role+"\n",
		"postgres", "--single", "-D", dir, "-c", "exit_on_error=on", "template1")
}

// tool runs one of the installed programs to its end.
func (s *Server) tool(ctx context.Context, dir, stdin, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, s.bin.path(name), args...)
	s.acct.confine(cmd, dir)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fault.Wrap(err, fault.Internal, "postgres_init", "%s failed: %s", name, tail(string(out)))
	}
	return nil
}

// maxTail bounds, in bytes, the part of a program's output in an error.
const maxTail = 1000

func tail(out string) string {
	out = strings.TrimSpace(out)
	return out[max(0, len(out)-maxTail):]
}
