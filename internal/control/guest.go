package control

import (
	"context"
	"io"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// ReasonSandboxNotFound is the reason with which a host answers a command for
// a sandbox that it does not have. Other NotFound answers are about files.
const ReasonSandboxNotFound = "sandbox_not_found"

// Exec implements Sandboxes.
func (s *Service) Exec(ctx context.Context, id sandbox.ID, e Exec, sink ExecSink) (ExecResult, error) {
	row, host, err := s.running(ctx, id)
	if err != nil {
		return ExecResult{}, err
	}
	defer s.activity.note(id)
	res, err := host.Exec(ctx, row.Ref(), e, sink)
	return res, s.guestFailed(ctx, host, row, err)
}

// WriteFile implements Sandboxes.
func (s *Service) WriteFile(ctx context.Context, id sandbox.ID, w WriteFile, content io.Reader) (int64, error) {
	if err := sandbox.ValidateGuestPath(w.Path); err != nil {
		return 0, err
	}
	row, host, err := s.running(ctx, id)
	if err != nil {
		return 0, err
	}
	defer s.activity.note(id)
	n, err := host.WriteFile(ctx, row.Ref(), w, content)
	return n, s.guestFailed(ctx, host, row, err)
}

// ReadFile implements Sandboxes.
func (s *Service) ReadFile(ctx context.Context, id sandbox.ID, path, user string) (*File, error) {
	if err := sandbox.ValidateGuestPath(path); err != nil {
		return nil, err
	}
	row, host, err := s.running(ctx, id)
	if err != nil {
		return nil, err
	}
	f, err := host.ReadFile(ctx, row.Ref(), path, user)
	if err != nil {
		return nil, s.guestFailed(ctx, host, row, err)
	}
	return f, nil
}

// running returns the row of a sandbox in which work can be done, by one read,
// and its host. It notes the activity in memory.
func (s *Service) running(ctx context.Context, id sandbox.ID) (Sandbox, Host, error) {
	row, err := s.store.Get(ctx, id)
	if err != nil {
		return Sandbox{}, nil, err
	}
	if row.State != sandbox.Running {
		return Sandbox{}, nil, wrongState(row, sandbox.StatusRunning)
	}
	host, err := s.hostOf(row)
	if err != nil {
		return Sandbox{}, nil, err
	}
	s.activity.note(id)
	return row, host, nil
}

// guestFailed turns the error of work in a guest into what the caller is told.
// If the host says that the sandbox is not what the row says, the row is
// settled first, so that the next reader sees the truth. nil stays nil.
func (s *Service) guestFailed(ctx context.Context, host Host, row Sandbox, err error) error {
	if err == nil {
		return nil
	}
	kind := fault.KindOf(err)
	gone := kind == fault.WrongState || kind == fault.Stale || fault.ReasonOf(err) == ReasonSandboxNotFound
	if !gone || OutcomeUnknown(err) {
		return guestFault(err)
	}
	// The caller may have gone; what was learnt is worth keeping.
	ctx, cancel := s.detached(ctx, s.cfg.AskTimeout)
	defer cancel()
	now, settleErr := s.settleNow(ctx, host, row)
	if settleErr == nil && now.State != sandbox.Running {
		return wrongState(now, sandbox.StatusRunning)
	}
	return withCleanup(guestFault(err), settleErr)
}
