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
	// PauseWindow is the time for which the parent's VM was stopped.
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

// forker is the use case that copies a sandbox.
type forker struct {
	common
	store        forkStore
	snapshots    *snapshots
	booter       *booter
	usage        *usageCache
	inFlight     *inFlight
	passRequests *passRequests
	server       ServerID
}

// forkStore is the part of [Store] that a forker needs.
type forkStore interface {
	InsertFork(ctx context.Context, snap Snapshot, rows []Sandbox) ([]Sandbox, error)
}

// Fork implements Forks. All rows are written with their capacity, or none;
// then the parent is frozen once, and every child starts from that.
func (fr *forker) Fork(ctx context.Context, id sandbox.ID, f Fork) (out Forked, err error) {
	if err := f.validate(); err != nil {
		return Forked{}, err
	}
	ctx, cancel := fr.detached(ctx, fr.cfg.ForkTimeout)
	defer cancel()
	parent, host, err := fr.snapshots.copyable(ctx, id)
	if err != nil {
		return Forked{}, err
	}
	spec, err := f.Clocks.ApplyTo(parent.Spec.Copied(f.Env))
	if err != nil {
		return Forked{}, err
	}
	spec.TrafficKey, spec.InitialLifetime = sandbox.NewTrafficKey(), spec.Lifetime
	metadata := merged(parent.Metadata, f.Metadata)
	if err := ValidateMetadata(metadata); err != nil {
		return Forked{}, err
	}
	snap := snapshotRow(parent, KindFork)
	rows := fr.children(parent, spec, metadata, f.Count)
	defer func() { fr.passRequests.requestAfter(parent.HostID, errors.Join(err, out.failures())) }()
	defer fr.inFlight.begin(idsOf(rows)...)()
	rows, err = fr.store.InsertFork(ctx, snap, rows)
	if err != nil {
		return Forked{}, err
	}
	fr.usage.add(parent.HostID, Capacity{VCPUs: f.Count * spec.VCPUs, MemoryMB: f.Count * spec.MemoryMB},
		promiseTo(fr.report(parent.HostID), spec, f.Count))
	work, cancelWork := context.WithTimeout(ctx, fr.cfg.ForkTimeout)
	defer cancelWork()
	defer fr.snapshots.dropSnapshot(ctx, host, snap.ID)
	observed, err := takeBy(host, NewSnapshot{Force: f.Force})(work, parent.Ref(), snap.ID, KindFork)
	if err != nil {
		return Forked{}, fr.forkFailed(ctx, parent, host, rows, err)
	}
	out = fr.bootAll(work, rows, spec, snap.ID)
	out.PauseWindow = observed.PauseWindow
	if len(out.Sandboxes) == 0 {
		return out, noChild(out.Failed)
	}
	return out, nil
}

func (f Fork) validate() error {
	if f.Count < 1 || f.Count > MaxForks {
		return fault.New(fault.Invalid, "invalid_count", "count must be from 1 to %d", MaxForks)
	}
	return nil
}

// noChild is the error of a fork of which no child runs. It has the kind and reason
// of the first child's error.
func noChild(failed []FailedFork) error {
	if len(failed) == 1 {
		return failed[0].Err
	}
	f := fault.As(failed[0].Err)
	return fault.Wrap(failed[0].Err, f.Kind, f.Reason, "none of the %d children started; the first, %s: %s", len(failed), failed[0].ID, f.Public)
}

// children returns the rows of a fork.
func (fr *forker) children(parent Sandbox, spec sandbox.Spec, metadata map[string]string, count int) []Sandbox {
	rows := make([]Sandbox, count)
	for i := range rows {
		rows[i] = Sandbox{
			ID: sandbox.NewID(), Generation: 1, State: sandbox.Pending, Spec: spec, Metadata: metadata,
			HostID: parent.HostID, Acceleration: parent.Acceleration, Isolation: parent.Isolation, ParentID: parent.ID,
			Server: fr.server,
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
func (fr *forker) bootAll(ctx context.Context, rows []Sandbox, spec sandbox.Spec, from sandbox.SnapshotID) Forked {
	started, errs := make([]Sandbox, len(rows)), make([]error, len(rows))
	var wg sync.WaitGroup
	for i, row := range rows {
		wg.Go(func() {
			errs[i] = fault.Caught(func() (err error) {
				started[i], err = fr.booter.boot(ctx, row, spec, from, nil)
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
func (fr *forker) forkFailed(ctx context.Context, parent Sandbox, host Host, rows []Sandbox, cause error) error {
	err := fr.snapshots.snapshotFailed(ctx, parent, host, cause)
	for _, row := range rows {
		err = withCleanup(err, fr.booter.bootGivenUp(ctx, row, cause))
	}
	return err
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
