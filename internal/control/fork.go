package control

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// MaxForks is the most children of one fork.
const MaxForks = 100

// Fork describes the children of a fork. They inherit all other settings from
// their parent.
type Fork struct {
	// Count is from 1 to MaxForks.
	Count int
	// Env is added for every command; the parent's own stays in the guest.
	Env map[string]string
	// Metadata is laid over the parent's.
	Metadata map[string]string
	// Clocks are those that differ; its Extend must be nil.
	Clocks ClockRequest
	// Force is that of NewSnapshot. A child whose guest cannot be renewed fails.
	Force bool
}

// Forked is the result of a fork.
type Forked struct {
	Sandboxes []Sandbox
	Failed    []FailedFork
	// PauseWindow is how long the parent stood still.
	PauseWindow time.Duration
}

// FailedFork is a child that did not start.
type FailedFork struct {
	ID  sandbox.ID
	Err error
}

// failures joins the errors of all children.
func (f Forked) failures() error {
	errs := make([]error, len(f.Failed))
	for i, child := range f.Failed {
		errs[i] = child.Err
	}
	return errors.Join(errs...)
}

// Forks copies sandboxes with their memory, processes and disk.
type Forks interface {
	// Fork returns when every child runs or has failed. The error is nil if
	// at least one runs.
	Fork(ctx context.Context, id sandbox.ID, f Fork) (Forked, error)
}

// Fork implements Forks. All rows are written with their capacity, or none;
// then the parent is frozen once, and every child starts from that.
func (s *Service) Fork(ctx context.Context, id sandbox.ID, f Fork) (out Forked, err error) {
	if err := f.validate(); err != nil {
		return Forked{}, err
	}
	ctx, cancel := s.detached(ctx, s.cfg.ForkTimeout)
	defer cancel()
	parent, host, err := s.still(ctx, id)
	if err != nil {
		return Forked{}, err
	}
	spec := f.Clocks.Over(parent.Spec.Copied(f.Env))
	if err := spec.Validate(); err != nil {
		return Forked{}, err
	}
	metadata := merged(parent.Metadata, f.Metadata)
	if err := ValidateMetadata(metadata); err != nil {
		return Forked{}, err
	}
	snap := snapshotRow(parent, KindFork)
	rows := s.children(parent, spec, metadata, f.Count)
	defer func() { s.operated(parent.HostID, errors.Join(err, out.failures())) }()
	defer s.underway.begin(idsOf(rows)...)()
	rows, err = s.store.InsertFork(ctx, snap, rows)
	if err != nil {
		return Forked{}, err
	}
	s.loads.add(parent.HostID, Capacity{VCPUs: f.Count * spec.VCPUs, MemoryMB: f.Count * spec.MemoryMB})
	work, cancelWork := context.WithTimeout(ctx, s.cfg.ForkTimeout)
	defer cancelWork()
	defer s.dropSnapshot(ctx, host, snap.ID)
	view, err := takeBy(host, f.Force)(work, parent.Ref(), snap.ID, KindFork)
	if err != nil {
		return Forked{}, s.forkFailed(ctx, parent, host, rows, err)
	}
	out = s.bootAll(work, rows, spec, snap.ID)
	out.PauseWindow = view.PauseWindow
	if len(out.Sandboxes) == 0 {
		return out, out.Failed[0].Err
	}
	return out, nil
}

func (f Fork) validate() error {
	if f.Count < 1 || f.Count > MaxForks {
		return fault.New(fault.Invalid, "invalid_count", "count must be from 1 to %d", MaxForks)
	}
	return nil
}

// still returns the row of a sandbox that can be copied: one that runs or is
// paused, and does not move.
func (s *Service) still(ctx context.Context, id sandbox.ID) (Sandbox, Host, error) {
	row, err := s.store.Get(ctx, id)
	if err != nil {
		return Sandbox{}, nil, err
	}
	if row.State != sandbox.Running && row.State != sandbox.Paused {
		return Sandbox{}, nil, wrongState(row, sandbox.StatusRunning)
	}
	host, err := s.hostOf(row)
	return row, host, err
}

// children returns the rows of a fork.
func (s *Service) children(parent Sandbox, spec sandbox.Spec, metadata map[string]string, count int) []Sandbox {
	rows := make([]Sandbox, count)
	for i := range rows {
		rows[i] = Sandbox{
			ID: sandbox.NewID(), Generation: 1, State: sandbox.Pending, Spec: spec, Metadata: metadata,
			HostID: parent.HostID, Acceleration: parent.Acceleration, Isolation: parent.Isolation, ParentID: parent.ID,
			Server: s.id,
		}
	}
	return rows
}

func idsOf(rows []Sandbox) []sandbox.ID {
	ids := make([]sandbox.ID, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	return ids
}

// bootAll asks the host for every row at once, so that it knows of all of them,
// and waits for all; the host starts a few at a time. Their order is kept.
func (s *Service) bootAll(ctx context.Context, rows []Sandbox, spec sandbox.Spec, from sandbox.SnapshotID) Forked {
	started, errs := make([]Sandbox, len(rows)), make([]error, len(rows))
	var wg sync.WaitGroup
	for i, row := range rows {
		wg.Go(func() {
			errs[i] = fault.Caught(func() (err error) {
				started[i], err = s.boot(ctx, row, spec, from)
				return err
			})
		})
	}
	wg.Wait()
	var out Forked
	for i, row := range rows {
		if errs[i] != nil {
			out.Failed = append(out.Failed, FailedFork{ID: row.ID, Err: errs[i]})
			continue
		}
		out.Sandboxes = append(out.Sandboxes, started[i])
	}
	return out
}

// forkFailed records that no child of a fork was ever asked for, because the
// parent could not be frozen, and returns the caller's error.
func (s *Service) forkFailed(ctx context.Context, parent Sandbox, host Host, rows []Sandbox, cause error) error {
	err := s.stillFailed(ctx, parent, host, cause)
	for _, row := range rows {
		err = withCleanup(err, s.bootGivenUp(ctx, row, cause))
	}
	return err
}

// bootGivenUp moves the row of a sandbox that its host was never asked for.
func (s *Service) bootGivenUp(ctx context.Context, row Sandbox, cause error) error {
	_, _, err := s.move(ctx, Move{
		Ref: row.Ref(), From: sandbox.Pending, To: sandbox.Error,
		StopReason: sandbox.ReasonBootFailed, Message: storable(fault.As(cause).Public),
	})
	return err
}

// stillFailed turns the error of a snapshot of row's sandbox into the caller's
// error. If the host's state differs from the row, the row is reconciled first.
func (s *Service) stillFailed(ctx context.Context, row Sandbox, host Host, cause error) error {
	if !stateForbids(cause) || OutcomeUnknown(cause) {
		return s.orEnded(ctx, row, hostFault(cause))
	}
	now, err := s.reconcileNow(ctx, host, row)
	if err == nil && now.State != row.State {
		return wrongState(now, row.State.Status())
	}
	return withCleanup(hostFault(cause), err)
}

// merged returns over laid over base; nil when both are empty.
func merged(base, over map[string]string) map[string]string {
	out := maps.Clone(base)
	if out == nil {
		return maps.Clone(over)
	}
	maps.Copy(out, over)
	return out
}
