package templates

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// maintainInterval is the time between two looks for abandoned builds and old rows.
const maintainInterval = 15 * time.Second

// expireEvery is how many of them pass between two looks for old rows.
const expireEvery = 20

// maintain carries on the builds of servers that have ended, and removes what is old, until ctx
// ends.
func (s *Service) maintain(ctx context.Context) {
	for n := 0; ; n++ {
		err := fault.Caught(func() error {
			s.adopt(ctx)
			if n%expireEvery == 0 {
				s.expire(ctx)
			}
			return nil
		})
		if err != nil {
			s.Log.Error("the maintenance of templates failed", "err", err)
		}
		if wait(ctx, maintainInterval, nil) != nil {
			return
		}
	}
}

// adopt continues the builds whose servers have ended, and destroys the machines of
// builds that have ended.
func (s *Service) adopt(ctx context.Context) {
	orphans, err := s.Store.Orphans(ctx, s.Server)
	if err != nil {
		if ctx.Err() == nil {
			s.Log.Warn("abandoned builds of templates could not be looked for", "err", err)
		}
		return
	}
	for _, o := range orphans {
		s.destroyMachines(ctx, o.Build.ID)
		s.enqueue(o, Inputs{}, true)
	}
	s.destroyStrays(ctx)
	s.interruptEnded(ctx)
}

// destroyMachines destroys the machines of a build.
func (s *Service) destroyMachines(ctx context.Context, id BuildID) {
	rows, err := s.Machines.MachinesOf(ctx, string(id))
	if err != nil {
		s.Log.Warn("the machines of a build could not be listed", "build", id, "err", err)
		return
	}
	for _, row := range rows {
		if err := s.Machines.Destroy(ctx, row.ID); err != nil && !fault.Is(err, fault.NotFound) {
			s.Log.Warn("a machine of a build could not be destroyed", "build", id, "machine", row.ID, "err", err)
		}
	}
}

// destroyStrays destroys the machines of builds that have ended.
func (s *Service) destroyStrays(ctx context.Context) {
	rows, err := s.Machines.MachinesOf(ctx, "")
	if err != nil {
		s.Log.Warn("the machines of builds could not be listed", "err", err)
		return
	}
	for _, row := range rows {
		id := BuildID(row.BuildID)
		if s.has(id) {
			continue
		}
		b, err := s.Store.GetBuild(ctx, id)
		if fault.Is(err, fault.NotFound) || err == nil && b.Status.Ended() {
			if err := s.Machines.Destroy(ctx, row.ID); err != nil {
				s.Log.Warn("a machine of a build that has ended could not be destroyed", "build", id, "machine", row.ID, "err", err)
			}
		}
	}
}

// interruptEnded ends the builds here that another server has ended.
func (s *Service) interruptEnded(ctx context.Context) {
	s.mu.Lock()
	var ids []BuildID
	for id := range s.running {
		ids = append(ids, id)
	}
	s.mu.Unlock()
	for _, id := range ids {
		if b, err := s.Store.GetBuild(ctx, id); fault.Is(err, fault.NotFound) || err == nil && b.Status.Ended() {
			s.interrupt(errCanceled, id)
		}
	}
}

// expire removes old snapshots, layers and uploads.
func (s *Service) expire(ctx context.Context) {
	old, err := s.Store.Expire(ctx, keepBuilds, keepFor)
	if err != nil {
		if ctx.Err() == nil {
			s.Log.Warn("old builds of templates could not be removed", "err", err)
		}
		return
	}
	s.drop(ctx, old...)
	s.trim(ctx)
	if err := s.blobs.expire(); err != nil {
		s.Log.Warn("old uploads could not be removed", "err", err)
	}
}
