package pgtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/pgserver"
)

// cluster is a temporary PostgreSQL server in a directory of its own. The
// kernel ends the server if this process dies.
type cluster struct {
	dir    string
	server *pgserver.Server
	// end asks the server to shut down; done receives its error when it has.
	end  context.CancelFunc
	done chan error
}

// startCluster creates and starts a server, and returns when it accepts
// connections.
func startCluster() (*cluster, error) {
	dir, err := os.MkdirTemp("", "wrenn-pg")
	if err != nil {
		return nil, err
	}
	// The unprivileged server must be able to enter its directories.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	server, err := pgserver.Open(ctx, pgserver.Config{Dir: filepath.Join(dir, "pg"), Temporary: true}, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	c := &cluster{dir: dir, server: server, done: make(chan error, 1)}
	var run context.Context
	run, c.end = context.WithCancel(context.Background())
	ready := make(chan struct{}, 1)
	go func() {
		c.done <- fault.Caught(func() error {
			return server.Run(run, func() {
				select {
				case ready <- struct{}{}:
				default: // a restart; the first start was announced
				}
			})
		})
	}()
	select {
	case <-ready:
		return c, nil
	case err = <-c.done:
		c.done <- err
	case <-ctx.Done():
		err = ctx.Err()
	}
	c.stop()
	return nil, fmt.Errorf("PostgreSQL does not start: %w", err)
}

func (c *cluster) url() (*url.URL, error) { return url.Parse(c.server.URL()) }

// stop shuts the server down and removes its files.
func (c *cluster) stop() {
	c.end()
	if err := errors.Join(<-c.done, c.server.Close(), os.RemoveAll(c.dir)); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
	}
}
