// Package pgserver runs a private PostgreSQL server from the distribution's
// own binaries, for people who want to start the product with one command.
//
// It owns one directory: the cluster in it, the unix socket through which
// alone the server can be reached, and the server process. `wrenn up` and
// `wrenn key` use it, and pgtest for the databases of tests; a given
// DATABASE_URL replaces it altogether. It speaks no SQL beyond creating the
// empty database, and never touches a cluster that it did not make.
//
//	Open ──► (closed lock, initialised cluster, no process)
//	  Run ──► starting ──ready──► serving ──ctx ends──► fast shutdown ──► Run returns
//	             ▲                   │
//	             └──── back-off ◄────┘ the server died
//
// The server dies with this process (see postmaster). The next Open stops and
// removes the leftovers of a kill.
package pgserver

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/flock"
)

// Role and Database are the names of the server's only superuser and of the
// product's database.
const (
	Role     = "wrenn"
	Database = "wrenn"
)

// maxSocketPath is the longest path of a unix socket: sun_path has 108 bytes
// (unix(7)) and PostgreSQL wants the last for NUL.
const maxSocketPath = 107

// socketName is the name of PostgreSQL's socket for the default port.
const socketName = ".s.PGSQL.5432"

// Config says where the server lives.
type Config struct {
	// Dir is the directory the package owns. It is made if it is missing; its
	// parent must exist.
	Dir string
	// BinDir holds initdb and postgres. Empty means the installed version that
	// made the cluster or, for a new cluster, the newest installed.
	BinDir string
	// Temporary trades durability for speed: a crash of the machine destroys
	// the cluster. Only tests set it.
	Temporary bool
}

func (c Config) dataDir() string { return filepath.Join(c.Dir, "data") }
func (c Config) runDir() string  { return filepath.Join(c.Dir, "run") }

// URL returns the connection URL of the server that lives in c.Dir, whether
// or not it runs. Both pgx and libpq read it: a space is %20, since libpq takes
// a plus sign as it is.
func (c Config) URL() string {
	host := strings.ReplaceAll(url.QueryEscape(c.runDir()), "+", "%20")
	return fmt.Sprintf("postgres://%s@/%s?host=%s", Role, Database, host)
}

// Server is a private PostgreSQL server.
//
// Invariants: while it is open this process holds the lock of its directory,
// so no second Server can exist for it in any process; at most one postmaster
// of ours runs at a time; before one is started no process of an earlier one
// is left.
type Server struct {
	cfg  Config
	bin  binaries
	acct account
	log  *slog.Logger
	lock *os.File
}

// Open locks the directory, stops a server that an earlier process left running in
// it, and makes the cluster if there is none, which takes some seconds the first
// time. It starts no server: Run does.
//
// Errors: Exists when another process has the directory open; Unsupported
// when no usable PostgreSQL is installed; WrongState when the cluster belongs
// to another major version or another user; Invalid when the path is too long
// or not reachable for the unprivileged user.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Server, error) {
	cfg, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: log, lock: lock}
	if err := s.prepare(ctx); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// URL returns the server's connection URL. It works while Run has announced
// readiness.
func (s *Server) URL() string { return s.cfg.URL() }

// Close releases the directory. It must not be called before Run has returned.
func (s *Server) Close() error { return s.lock.Close() }

// resolve makes the paths absolute and free of symbolic links, as processes
// in /proc show them, and checks the length of the socket's.
func (c Config) resolve() (Config, error) {
	abs, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, err
	}
	// 0711 for any umask: the unprivileged server must reach its directories,
	// which are closed to everyone else.
	if err = os.Mkdir(abs, 0o711); err == nil {
		err = os.Chmod(abs, 0o711)
	}
	if err != nil && !os.IsExist(err) {
		return c, fault.Wrap(err, fault.Invalid, "postgres_dir", "cannot make the directory %s for PostgreSQL", abs)
	}
	if c.Dir, err = filepath.EvalSymlinks(abs); err != nil {
		return c, fault.Wrap(err, fault.Invalid, "postgres_dir", "cannot use the directory %s for PostgreSQL", abs)
	}
	if socket := filepath.Join(c.runDir(), socketName); len(socket) > maxSocketPath {
		return c, fault.New(fault.Invalid, "postgres_path_too_long",
			"the path of PostgreSQL's socket, %s, has %d bytes and may have %d: choose a data directory with a shorter path",
			socket, len(socket), maxSocketPath)
	}
	if strings.ContainsAny(c.Dir, ",\n") {
		return c, fault.New(fault.Invalid, "postgres_path_comma",
			"PostgreSQL's clients take %s, which has a comma or a line break in it, for several: choose a data directory without", c.Dir)
	}
	return c, nil
}

// lockDir takes the lock of dir. The kernel drops it when this process ends,
// however it ends.
func lockDir(dir string) (*os.File, error) {
	f, err := flock.Open(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "postgres_dir", "cannot use the directory %s for PostgreSQL", dir)
	}
	if err := flock.Try(f); err != nil {
		_ = f.Close()
		return nil, fault.Wrap(err, fault.Exists, "postgres_in_use",
			"the PostgreSQL server in %s is already run by another wrenn process: stop that one first (wrenn down)", dir)
	}
	return f, nil
}

// prepare brings the directory from any state that it was left in to a cluster
// that can be started.
func (s *Server) prepare(ctx context.Context) error {
	var err error
	if s.acct, err = accountFor(s.cfg.dataDir()); err != nil {
		return err
	}
	if s.bin, err = s.findBinaries(ctx); err != nil {
		return err
	}
	if err := s.stopLeftovers(ctx); err != nil {
		return err
	}
	return s.ensureCluster(ctx)
}
