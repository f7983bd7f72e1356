package control

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// booter has hosts start the sandboxes of pending rows, for creates and forks.
type booter struct {
	common
	rows    *rowReconciler
	healths *healths
}

// boot has the host start the sandbox of a pending row. spec is the row's with
// the environment, which rows do not keep; boot adds the token of the guest's public
// server. from is the snapshot to start from,
// which the row of a fork does not name. progress is that of NewSandbox.
func (b *booter) boot(ctx context.Context, row Sandbox, spec sandbox.Spec, from sandbox.SnapshotID, progress func(CreateStage)) (Sandbox, error) {
	host, err := b.hostOf(row)
	if err != nil {
		return Sandbox{}, b.bootFailed(ctx, row, err)
	}
	hostCtx, cancel := context.WithTimeout(ctx, b.cfg.CreateTimeout)
	defer cancel()
	spec.EnvdToken = spec.EnvdTokenOf(row.ID)
	stop := tell(hostCtx, host, row.ID, progress)
	observed, err := host.Create(hostCtx, row.Ref(), spec, from)
	stop()
	if refusal := ignored(spec, observed.Spec); err == nil && refusal != nil {
		cleanup := host.Destroy(ctx, row.Ref(), sandbox.ReasonBootFailed)
		return Sandbox{}, withCleanup(b.bootFailed(ctx, row, refusal), cleanup)
	}
	switch {
	case err == nil:
		return b.booted(ctx, host, row, observed)
	case OutcomeUnknown(err):
		return Sandbox{}, stateUnknown(row, err)
	default:
		return Sandbox{}, b.bootFailed(ctx, row, err)
	}
}

// ignored returns the fault of a create if an agent of an earlier version has ignored a
// part of the spec want, and made a sandbox with the spec got.
func ignored(want, got sandbox.Spec) error {
	switch {
	case !got.Egress.Equal(want.Egress):
		return errEgressUnsupported()
	case want.PauseDiskOnly && !got.PauseDiskOnly:
		return ErrDiskPauseUnsupported()
	}
	return nil
}

// ErrDiskPauseUnsupported is the fault of a create, pause, resume or snapshot that is to do
// without memory, which an agent of an earlier version would keep.
func ErrDiskPauseUnsupported() error {
	return fault.New(fault.Unsupported, "disk_pause_unsupported",
		"the agent of the host is of an earlier version, which pauses, copies and resumes sandboxes with their memory alone: update it, or leave the memory in")
}

// errEgressUnsupported is the fault of a create whose limits an agent of an earlier version
// has ignored.
func errEgressUnsupported() error {
	return fault.New(fault.Unsupported, "egress_unsupported",
		"the agent of the host is of an earlier version and cannot limit outgoing traffic: update it, or create the sandbox without limits")
}

// booted moves the row of a VM that runs. If the row has ended meanwhile the
// VM is destroyed.
func (b *booter) booted(ctx context.Context, host Host, row Sandbox, observed ObservedSandbox) (Sandbox, error) {
	b.healths.note(observed)
	now, won, err := b.rows.move(ctx, Move{
		Ref: row.Ref(), From: sandbox.Pending, To: sandbox.Running, Runtime: &observed.Runtime, ActiveAt: observed.LastActiveAt,
	})
	switch {
	case fault.Is(err, fault.NotFound):
		return Sandbox{}, withCleanup(rowLost(err), host.Destroy(ctx, row.Ref(), sandbox.ReasonDestroyed))
	case err != nil:
		return Sandbox{}, err // the VM runs and the row is pending: the reconciler moves it
	case won, !now.State.Ended() && now.State != sandbox.Stopping:
		return b.healths.addTo(now), nil // or the reconciler came first
	}
	return Sandbox{}, withCleanup(overtaken(now), host.Destroy(ctx, row.Ref(), sandbox.ReasonDestroyed))
}

// rowLost is the fault of a create whose row a crash of the database took back
// before it was durable.
func rowLost(cause error) error {
	return fault.Wrap(cause, fault.Unavailable, "create_lost",
		"the database was restarted while the sandbox was being created; create it again")
}

// bootFailed records that the host definitely did not start row's sandbox, and
// returns the caller's error. The reconciler removes the host's memory of the
// attempt.
func (b *booter) bootFailed(ctx context.Context, row Sandbox, cause error) error {
	now, won, err := b.rows.move(ctx, Move{
		Ref: row.Ref(), From: sandbox.Pending, To: sandbox.Error,
		StopReason: sandbox.ReasonBootFailed, Message: storable(fault.As(cause).Public),
	})
	if err == nil && !won && now.StopReason != sandbox.ReasonBootFailed {
		return overtaken(now)
	}
	return withCleanup(hostFault(cause), err)
}

// bootGivenUp moves the row of a sandbox that its host was never asked for.
func (b *booter) bootGivenUp(ctx context.Context, row Sandbox, cause error) error {
	_, _, err := b.rows.move(ctx, Move{
		Ref: row.Ref(), From: sandbox.Pending, To: sandbox.Error,
		StopReason: sandbox.ReasonBootFailed, Message: storable(fault.As(cause).Public),
	})
	return err
}

// overtaken says why a create has no sandbox to return although it did its part.
func overtaken(row Sandbox) error {
	if row.State == sandbox.Stopping || row.StopReason == sandbox.ReasonDestroyed {
		return fault.New(fault.WrongState, ReasonEnded, "sandbox %s was destroyed while it was being created", row.ID)
	}
	return fault.New(fault.HostFailed, "boot_failed", "sandbox %s ended while it was being created (%s); create another", row.ID, row.StopReason)
}

// maxMessage bounds a message of a host that is stored, in bytes.
const maxMessage = 1024

// storable makes a sentence from elsewhere fit for a text column.
func storable(s string) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
	if len(s) <= maxMessage {
		return s
	}
	cut := maxMessage
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}
