package pgserver

import (
	"context"
	"time"
)

// Back-off between a death of the server and its restart.
const (
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 10 * time.Second
	// calm is how long the server must have served for the back-off to begin
	// anew.
	calm = time.Minute
	// maxFailedRestarts is how many restarts in a row may fail to come up
	// before Run gives up.
	maxFailedRestarts = 5
)

// StopTimeout is the longest that Run takes to return after ctx has ended.
const StopTimeout = fastShutdown + immediateShutdown + killing + outputGrace + time.Second

// Run serves until ctx ends, then shuts the server down and returns. It calls
// ready whenever the server has come to accept connections: once at first and
// again after each restart. A server that dies is restarted after a growing
// pause; Run fails when the first start fails or when several restarts in a
// row do.
func (s *Server) Run(ctx context.Context, ready func()) error {
	pm, err := s.startAndWait(ctx)
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
		if pm, err = s.restart(ctx, pm, pause); err != nil {
			return s.stopped(ctx, err)
		}
	}
}

// restart waits, clears what the dead postmaster left and starts another.
func (s *Server) restart(ctx context.Context, dead *postmaster, pause time.Duration) (*postmaster, error) {
	for failed := 1; ; failed++ {
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
		if err := s.settle(ctx); err != nil {
			return nil, err
		}
		dead.output.close()
		pm, err := s.startAndWait(ctx)
		if err == nil || ctx.Err() != nil || failed == maxFailedRestarts {
			return pm, err
		}
		pause = min(2*pause, maxBackoff)
		s.log.Error("PostgreSQL did not restart", "error", err, "restart_in", pause)
	}
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
