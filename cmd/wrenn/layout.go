package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/cli"
	"github.com/wrenn-dev/wrenn/internal/daemon"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/datafs"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/doctor"
	"github.com/wrenn-dev/wrenn/internal/host/network"
	"github.com/wrenn-dev/wrenn/internal/pgserver"
)

// layout names the parts of the data directory:
//
//	<data>/up.lock         held while wrenn up runs, with its process id
//	<data>/api-key         a key of the API for this machine's root and CLI
//	<data>/tls/            certificate authorities of --tls auto
//	<data>/run/agent.sock  the host agent's RPC
//	<data>/host/           the host agent's data
//	<data>/host.xfs        the file system mounted there, if it has its own
//	<data>/host.xfs.lock   held while that file system is made, mounted or unmounted
//	<data>/images/         kernels and templates
//	<data>/uploads/        files for template builds
//	<data>/ballast         space for a database on a full disk, see disk.Ballast
//	<data>/postgres/       the embedded database
type layout struct{ root string }

func (l layout) apiKey() string { return filepath.Join(l.root, cli.KeyFileName) }
func (l layout) lock() string   { return filepath.Join(l.root, "up.lock") }

// authority is the directory of certificate authorities.
func (l layout) authority() string { return filepath.Join(l.root, "tls") }

func (l layout) host() string { return filepath.Join(l.root, "host") }
func (l layout) dataFS() datafs.Place {
	return datafs.Place{Image: filepath.Join(l.root, "host.xfs"), Dir: l.host()}
}
func (l layout) builds() string      { return filepath.Join(l.root, "host", "vmm") }
func (l layout) runsc() string       { return filepath.Join(l.root, "host", "runsc") }
func (l layout) builtRunsc() string  { return filepath.Join(l.root, "images", "runsc") }
func (l layout) probe() string       { return filepath.Join(l.root, "host", "probe") }
func (l layout) images() string      { return filepath.Join(l.root, "images") }
func (l layout) uploads() string     { return filepath.Join(l.root, "uploads") }
func (l layout) agentSocket() string { return filepath.Join(l.root, "run", "agent.sock") }

// parts lists the possible entries of the data directory.
func (l layout) parts() []string {
	names := []string{"up.lock", "run", "host", "host.xfs", "host.xfs.lock", "images", "uploads", "ballast", "postgres", "api-key", "tls", "wrenn.log"}
	for i, name := range names {
		names[i] = filepath.Join(l.root, name)
	}
	return names
}

// name returns the prefix of the names of namespaces, devices and control groups that
// belong to the data directory. Each directory has its own, so that an installation
// never takes the resources of another for its leftovers.
func (l layout) name() string {
	if l.root == defaultDataDir {
		return network.DefaultName
	}
	sum := sha256.Sum256([]byte(l.root))
	return "w" + hex.EncodeToString(sum[:4])
}

// ballast is the file that keeps space for the database and the journals.
func (l layout) ballast() disk.Ballast {
	return disk.Ballast{Path: filepath.Join(l.root, "ballast"), Size: disk.DefaultBallast}
}

// agentAddress returns the URL of the agent's socket.
func (l layout) agentAddress() string { return "unix://" + l.agentSocket() }

func (l layout) postgres(s databaseSettings) pgserver.Config {
	return pgserver.Config{Dir: filepath.Join(l.root, "postgres"), BinDir: s.postgresBin}
}

// make makes the missing directories, except those of the host agent. Other users
// must be able to pass through the data directory, regardless of the umask and its
// mode, because the database runs as a user of its own. Its entries are closed to
// them.
func (l layout) make() error {
	return l.makeDirs(dirMode{l.root, 0o711}, dirMode{filepath.Dir(l.agentSocket()), 0o700})
}

// makeHost makes the missing directories of the host agent. A file system of its own
// must have been mounted. Sandboxes have user ids of their own and execute the kept
// programs below, so that others may pass through; all other directories in it are
// closed to them.
func (l layout) makeHost() error {
	return l.makeDirs(dirMode{l.host(), 0o711}, dirMode{l.probe(), 0o700})
}

type dirMode struct {
	path string
	mode os.FileMode
}

func (l layout) makeDirs(dirs ...dirMode) error {
	for _, dir := range dirs {
		if err := makeDir(dir.path, dir.mode); err != nil {
			return fault.Wrap(err, fault.Invalid, "invalid_data_dir", "the data directory %s cannot be made", l.root)
		}
	}
	return nil
}

// makeDir makes sure that there is a directory with at least mode.
func makeDir(path string, mode os.FileMode) error {
	if err := os.MkdirAll(path, mode); err != nil {
		return err
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm()&mode == mode {
		return err
	}
	return os.Chmod(path, st.Mode().Perm()|mode)
}

// lockForUp makes this process the only wrenn up of the directory.
func (l layout) lockForUp() (release func(), err error) {
	release, err = daemon.Lock(l.lock())
	switch {
	case errors.Is(err, daemon.ErrRunning):
		return nil, fault.Wrap(err, fault.Exists, "already_up",
			"another wrenn up uses %s: stop it with `wrenn down --data-dir %s`", l.root, doctor.Quote(l.root))
	case err != nil:
		return nil, fault.Wrap(err, fault.Invalid, "invalid_data_dir", "the data directory %s cannot be used", l.root)
	}
	return release, nil
}

func trimLine(raw []byte) string { return strings.TrimSpace(string(raw)) }
