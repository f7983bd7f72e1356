package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/daemon"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/pgserver"
)

// layout names the parts of the data directory:
//
//	<data>/up.lock         held while wrenn up runs, with its process id
//	<data>/run/agent.sock  the host agent's RPC
//	<data>/host/           the host agent's own
//	<data>/images/         kernels and templates
//	<data>/postgres/       the embedded database
type layout struct{ root string }

func (l layout) lock() string        { return filepath.Join(l.root, "up.lock") }
func (l layout) host() string        { return filepath.Join(l.root, "host") }
func (l layout) probe() string       { return filepath.Join(l.root, "host", "probe") }
func (l layout) images() string      { return filepath.Join(l.root, "images") }
func (l layout) agentSocket() string { return filepath.Join(l.root, "run", "agent.sock") }

// agentAddress is the agent's socket as clients of it write that.
func (l layout) agentAddress() string { return "unix://" + l.agentSocket() }

func (l layout) postgres(s databaseSettings) pgserver.Config {
	return pgserver.Config{Dir: filepath.Join(l.root, "postgres"), BinDir: s.postgresBin}
}

// make makes what is missing of the directory. Others may pass through it, for
// VMs and the database run as users of their own; what is in it is closed.
func (l layout) make() error {
	for dir, mode := range map[string]os.FileMode{l.root: 0o711, l.host(): 0o711, filepath.Dir(l.agentSocket()): 0o700} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return fault.Wrap(err, fault.Invalid, "invalid_data_dir", "the data directory %s cannot be made", l.root)
		}
	}
	return nil
}

// lockForUp makes this process the only wrenn up of the directory.
func (l layout) lockForUp() (release func(), err error) {
	release, err = daemon.Lock(l.lock())
	switch {
	case errors.Is(err, daemon.ErrRunning):
		return nil, fault.Wrap(err, fault.Exists, "already_up",
			"another wrenn up uses %s: stop it with `wrenn down --data-dir %s`", l.root, l.root)
	case err != nil:
		return nil, fault.Wrap(err, fault.Invalid, "invalid_data_dir", "the data directory %s cannot be used", l.root)
	}
	return release, nil
}

func trimLine(raw []byte) string { return strings.TrimSpace(string(raw)) }
