package control

import "context"

// Reconciler returns a function that makes one pass over a host, as the loop
// does.
func (s *Service) Reconciler(hostID string) func(context.Context) error {
	memory := newPassMemory(s.loops.reconciler.cfg)
	return func(ctx context.Context) error {
		_, err := s.loops.reconciler.pass(ctx, hostID, memory)
		return err
	}
}

// FlushActivity writes the recorded activity.
func (s *Service) FlushActivity(ctx context.Context) error { return s.loops.activity.flush(ctx) }

// DeleteEnded deletes rows past their retention.
func (s *Service) DeleteEnded(ctx context.Context) error { return s.loops.retention.deleteEnded(ctx) }
