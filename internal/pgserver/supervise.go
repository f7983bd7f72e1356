package pgserver

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/linux/statfs"
)

// Back-off between a death of the server and its restart.
const (
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 3 * time.Second
	// calm is the time of service after which the back-off starts again from
	// its minimum.
	calm = time.Minute
	// lowSpace is the free space, in bytes, below which a failed first start
	// counts as a lack of space and is tried again.
	lowSpace = 64 << 20
)

// StopTimeout is the longest that Run takes to return after ctx has ended.
const StopTimeout = fastShutdown + immediateShutdown + killing + outputGrace + time.Second

// Run serves until ctx ends, then shuts the server down and returns. It calls
// ready whenever the server has come to accept connections: once at first and
// again after each restart. A server that dies is restarted after a growing
// back-off, without a limit on the number of attempts; the rest of the process
// continues without a database. Run fails only if the first start fails for
// another reason than a lack of space.
func (s *Server) Run(ctx context.Context, ready func()) error {
	pm, err := s.startAndWait(ctx)
	if err != nil && ctx.Err() == nil && s.spaceIsLow() {
		s.log.Error("PostgreSQL did not start; its disk is full", "error", err, "restart_in", firstBackoff)
		pm, err = s.restart(ctx, firstBackoff)
	}
	if err != nil {
		return s.stopped(ctx, err)
	}
	for pause := firstBackoff; ; pause = min(2*pause, maxBackoff) {
		began := time.Now()
		s.log.Info("PostgreSQL is ready", "version", s.bin.version, "pid", pm.process.Pid)
		ready()
		select {
		case <-ctx.Done():
			return pm.stop(s.log)
		case <-pm.exited:
		}
		s.log.Error("PostgreSQL died", "error", pm.err, "restart_in", pause)
		if time.Since(began) > calm {
			pause = firstBackoff
		}
		pm.output.close()
		if pm, err = s.restart(ctx, pause); err != nil {
			return s.stopped(ctx, err)
		}
	}
}

// restart waits, removes the leftovers of the dead postmaster and starts
// another one, until one serves. It fails only if ctx ends.
func (s *Server) restart(ctx context.Context, pause time.Duration) (*postmaster, error) {
	for {
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
		err := s.stopLeftovers(ctx)
		if err == nil {
			var pm *postmaster
			if pm, err = s.startAndWait(ctx); err == nil {
				return pm, nil
			}
		}
		if ctx.Err() != nil {
			return nil, err
		}
		pause = min(2*pause, maxBackoff)
		s.log.Error("PostgreSQL did not restart", "error", err, "restart_in", pause)
	}
}

// spaceIsLow reports whether the free space at the cluster is below lowSpace.
func (s *Server) spaceIsLow() bool {
	fs, err := statfs.Path(s.cfg.Dir)
	return err == nil && fs.Available < lowSpace
}

// stopped turns err into nil when it only says that ctx has ended.
func (s *Server) stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		s.log.Debug("PostgreSQL was stopped while it started", "error", err)
		return nil
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
