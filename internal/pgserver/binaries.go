package pgserver

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// minMajor is the oldest major version accepted, the oldest that the
// supported distributions carry.
const minMajor = 13

// binaries is one installed PostgreSQL.
type binaries struct {
	dir     string
	major   int
	version string
}

func (b binaries) path(name string) string { return filepath.Join(b.dir, name) }

// binDirs are where distributions put the server's binaries, which are
// seldom on PATH: Debian and Ubuntu, Alpine, Red Hat's own and PGDG's.
var binDirs = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/libexec/postgresql*",
	"/usr/pgsql-*/bin",
	"/usr/bin",
	"/usr/local/bin",
	"/usr/local/pgsql/bin",
}

// findBinaries returns the PostgreSQL to use: the configured one, else the
// one of the cluster's major version, else the newest.
func (s *Server) findBinaries(ctx context.Context) (binaries, error) {
	major, err := s.clusterMajor()
	if err != nil {
		return binaries{}, err
	}
	found, err := s.installed(ctx)
	if err != nil {
		return binaries{}, err
	}
	if len(found) == 0 {
		return binaries{}, fault.New(fault.Unsupported, "postgres_missing",
			"no PostgreSQL server (version %d or newer) is installed: run `apt-get install postgresql`, or give one with DATABASE_URL", minMajor)
	}
	if major == 0 {
		return found[0], nil
	}
	for _, b := range found {
		if b.major == major {
			return b, nil
		}
	}
	return binaries{}, fault.New(fault.WrongState, "postgres_version",
		"the database in %s was made by PostgreSQL %d and the one found is %s: run `apt-get install postgresql-%d`, "+
			"or move the data with pg_upgrade, or use another data directory", s.cfg.Dir, major, found[0].version, major)
}

// installed lists the usable PostgreSQLs, newest first.
func (s *Server) installed(ctx context.Context) ([]binaries, error) {
	patterns := binDirs
	if s.cfg.BinDir != "" {
		patterns = []string{s.cfg.BinDir}
	}
	var found []binaries
	for _, p := range patterns {
		dirs, err := filepath.Glob(p)
		if err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "postgres_dir", "%q is no directory of PostgreSQL binaries", p)
		}
		for _, dir := range dirs {
			b, err := s.inspect(ctx, dir)
			if err != nil {
				return nil, err
			}
			if b.major >= minMajor {
				found = append(found, b)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b binaries) int { return cmp.Compare(b.major, a.major) })
	return found, nil
}

var versionLine = regexp.MustCompile(`^postgres \(PostgreSQL\) (([0-9]+)[0-9a-z.]*)`)

// inspect asks the postgres in dir for its version, as the user and in the
// directory that it will run with, so that missing permissions show here. A
// dir without both programs gives the zero value.
func (s *Server) inspect(ctx context.Context, dir string) (binaries, error) {
	b := binaries{dir: dir}
	for _, name := range []string{"postgres", "initdb"} {
		if _, err := os.Stat(b.path(name)); err != nil {
			return binaries{}, nil
		}
	}
	cmd := exec.CommandContext(ctx, b.path("postgres"), "--version")
	s.acct.confine(cmd, s.cfg.Dir)
	out, err := cmd.Output()
	switch {
	case errors.Is(err, fs.ErrPermission):
		return binaries{}, s.acct.unreachable(s.cfg.Dir, err)
	case err != nil:
		return binaries{}, fault.Wrap(err, fault.Internal, "postgres_broken", "%s does not run", b.path("postgres"))
	}
	m := versionLine.FindStringSubmatch(strings.TrimSpace(string(out)))
	if m == nil {
		return binaries{}, nil
	}
	b.version = m[1]
	b.major, err = strconv.Atoi(m[2])
	return b, err
}
