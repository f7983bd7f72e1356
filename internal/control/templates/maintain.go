package templates

import (
	"context"
	"slices"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// maintainInterval is the time between two looks for abandoned builds and old rows.
var maintainInterval = 15 * time.Second

// expireEvery is how many of them pass between two looks for old rows.
const expireEvery = 20

// maintain carries on the builds of servers that have ended, and removes old ones, until ctx
// ends.
func (s *Service) maintain(ctx context.Context) {
	for n := 0; ; n++ {
		err := fault.Caught(func() error {
			s.adopt(ctx)
			s.resume(ctx)
			s.destroyStrays(ctx)
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

// adopt continues the builds whose servers have ended.
func (s *Service) adopt(ctx context.Context) {
	orphans, err := s.Store.Orphans(ctx, s.Server)
	if err != nil && ctx.Err() == nil {
		s.Log.Warn("abandoned builds of templates could not be looked for", "err", err)
	}
	for _, id := range orphans {
		s.carryOn(ctx, id, "the server was restarted")
	}
}

// carryOn continues a build from its last layer, unless it is here already. One that has ended by
// its turn is left as it is.
func (s *Service) carryOn(ctx context.Context, id BuildID, why string) {
	j := s.reserve(id, Inputs{})
	if j == nil {
		return
	}
	s.destroyMachines(ctx, j.id)
	s.enqueue(j, why)
}

// resume carries on the builds of this server that nothing here carries out: the answer of
// the store to their start, their adoption or their end was lost, or a panic ended them. It
// interrupts the builds here that have ended, or that another server has claimed.
func (s *Service) resume(ctx context.Context) {
	here := s.startedHere()
	owned, err := s.Store.Owned(ctx, s.Server)
	if err != nil {
		if ctx.Err() == nil {
			s.Log.Warn("the builds of this server could not be read", "err", err)
		}
		return
	}
	ours := map[BuildID]bool{}
	for _, id := range owned {
		ours[id] = true
		if !s.has(id) {
			s.resumeOne(ctx, id)
		}
	}
	s.mu.Lock()
	for id := range s.resumed {
		if !ours[id] {
			delete(s.resumed, id)
		}
	}
	s.mu.Unlock()
	for _, id := range here {
		if !ours[id] {
			s.interruptLost(ctx, id)
		}
	}
}

// resumeOne carries on a build of this server that is not here, or fails it if that was done too
// often. The list of builds may be old, because the machines of those before were destroyed since:
// a build that has ended, or that another server has claimed, is left as it is, with its machines.
func (s *Service) resumeOne(ctx context.Context, id BuildID) {
	owned, err := s.Store.Owned(ctx, s.Server)
	if err != nil && ctx.Err() == nil {
		s.Log.Warn("the builds of this server could not be read", "err", err)
	}
	if !slices.Contains(owned, id) {
		return
	}
	s.mu.Lock()
	s.resumed[id]++
	n := s.resumed[id]
	s.mu.Unlock()
	if n <= maxResumes {
		s.carryOn(ctx, id, "the build was interrupted by an error of the server")
		return
	}
	_, err = s.Store.FailBuild(ctx, id, s.Server, Reason{Message: "errors of the server interrupted the build too often; build again, and read the server's log"})
	if err != nil {
		s.Log.Warn("a build that nothing carries out could not be ended", "build", id, "err", err)
	}
	s.notify()
}

// interruptLost ends a build here that the store does not call one of this server.
func (s *Service) interruptLost(ctx context.Context, id BuildID) {
	b, err := s.Store.GetBuild(ctx, id)
	switch {
	case fault.Is(err, fault.NotFound):
		s.interrupt(errDeleted, id)
	case err == nil && b.Reason != nil:
		s.interrupt(endedElsewhere(b.Reason.Message), id)
	case err == nil && b.Status.Ended():
		s.interrupt(endedElsewhere("another server has completed the build"), id)
	case err == nil:
		s.interrupt(errClaimed, id)
	}
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

// expire removes old snapshots, layers and uploads.
func (s *Service) expire(ctx context.Context) {
	old, err := s.Store.Expire(ctx, expiry)
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
