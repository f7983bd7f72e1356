package control

import (
	"cmp"
	"context"
	"io"
	"slices"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// ReasonSandboxNotFound is the reason with which a host answers a command for
// a sandbox that it does not have. Other NotFound answers are about files.
const ReasonSandboxNotFound = "sandbox_not_found"

// Reasons of work in a guest that the state of its sandbox forbids or cuts.
const (
	// ReasonNotRunning: the host refused to begin. Nothing has happened.
	ReasonNotRunning = "sandbox_not_running"
	// ReasonPaused: a pause cut work that had begun. A command continues when the
	// sandbox is resumed, so a caller that repeats it runs it twice.
	ReasonPaused = "sandbox_paused"
	// ReasonPortRefused: nothing listens on the port of the guest.
	ReasonPortRefused = "port_refused"
	// ReasonEnded: the sandbox has ended, or its end has begun.
	ReasonEnded = "sandbox_ended"
)

// guestWork is the use cases that work inside a sandbox: commands, files and
// connections to ports.
type guestWork struct {
	common
	store     sandboxReader
	rows      *rowReconciler
	lifecycle *lifecycle
	activity  *activity
}

// Exec implements Sandboxes.
func (g *guestWork) Exec(ctx context.Context, id sandbox.ID, e Exec, sink ExecSink) (res ExecResult, err error) {
	err = g.inGuest(ctx, id, func(host Host, ref sandbox.Ref) error {
		res, err = host.Exec(ctx, ref, e, sink)
		return err
	})
	return res, err
}

// WriteFile implements Sandboxes.
func (g *guestWork) WriteFile(ctx context.Context, id sandbox.ID, w WriteFile, content io.Reader) (n int64, err error) {
	if err := sandbox.ValidateGuestPath(w.Path); err != nil {
		return 0, err
	}
	once := &readOnce{Reader: content}
	err = g.inGuest(ctx, id, func(host Host, ref sandbox.Ref) error {
		if once.begun {
			return fault.New(fault.WrongState, ReasonPaused, "sandbox %s was paused while the file was being sent; send the file again", id)
		}
		n, err = host.WriteFile(ctx, ref, w, once)
		return err
	})
	return n, err
}

// readOnce remembers that something was read, after which it cannot be given
// to a second attempt. One goroutine at a time uses it.
type readOnce struct {
	io.Reader
	begun bool
}

// Read implements io.Reader.
func (r *readOnce) Read(p []byte) (int, error) {
	r.begun = true
	return r.Reader.Read(p)
}

// ReadFile implements Sandboxes.
func (g *guestWork) ReadFile(ctx context.Context, id sandbox.ID, r ReadFile) (f *File, err error) {
	if err := sandbox.ValidateGuestPath(r.Path); err != nil {
		return nil, err
	}
	err = g.inGuest(ctx, id, func(host Host, ref sandbox.Ref) error {
		f, err = host.ReadFile(ctx, ref, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// DialPort connects to a TCP port of a sandbox, which it resumes first if that is
// paused with auto_resume, unless the options have Passive. ctx bounds that and the
// connecting, not the connection. The error is HostFailed with ReasonPortRefused where
// nothing listens.
func (g *guestWork) DialPort(ctx context.Context, id sandbox.ID, port uint16, options ...DialOption) (conn PortConn, err error) {
	in := g.inGuest
	if slices.Contains(options, Passive) {
		in = g.inRunningGuest
	}
	var refused error
	err = in(ctx, id, func(host Host, ref sandbox.Ref) error {
		conn, err = host.DialPort(ctx, ref, port, options...)
		if fault.ReasonOf(err) == ReasonPortRefused {
			// The guest has answered: the state of the sandbox need not be asked for.
			refused = err
			return nil
		}
		return err
	})
	if err = cmp.Or(err, refused); err != nil {
		return nil, err
	}
	return conn, nil
}

// inGuest does work in a sandbox that runs, or that can be resumed for it. A
// host that refuses to begin is asked once more if the sandbox turns out to
// run, or can be resumed: it paused the sandbox by itself, or a pause and a
// resume came between the read of the row and the command.
func (g *guestWork) inGuest(ctx context.Context, id sandbox.ID, work func(Host, sandbox.Ref) error) error {
	row, host, err := g.usable(ctx, id)
	if err != nil {
		return err
	}
	cause := work(host, row.Ref())
	g.activity.note(id)
	if cause == nil {
		return nil
	}
	now, err := g.guestFailed(ctx, host, row, cause)
	refused := fault.ReasonOf(cause) == ReasonNotRunning || fault.Is(cause, fault.Stale)
	if !refused || !(g.lifecycle.resumesForUse(now) || now.State == sandbox.Running) || ctx.Err() != nil {
		return err
	}
	if row, host, err = g.usable(ctx, id); err != nil {
		return err
	}
	cause = work(host, row.Ref())
	g.activity.note(id)
	if cause == nil {
		return nil
	}
	_, err = g.guestFailed(ctx, host, row, cause)
	return err
}

// inRunningGuest does work that is no use of the sandbox. It neither notes activity nor
// resumes a sandbox, also if that paused after the caller has read its row.
func (g *guestWork) inRunningGuest(ctx context.Context, id sandbox.ID, work func(Host, sandbox.Ref) error) error {
	row, err := g.store.Get(ctx, id)
	if err != nil {
		return err
	}
	if row.State != sandbox.Running {
		return wrongState(row, sandbox.StatusRunning)
	}
	host, err := g.hostOf(row)
	if err != nil {
		return err
	}
	if cause := work(host, row.Ref()); cause != nil {
		_, err = g.guestFailed(ctx, host, row, cause)
	}
	return err
}

// usable returns the row of a sandbox in which work can be done, by one read
// unless it has to be resumed, and its host. It notes the activity in memory,
// so that the idle clock does not look older than it is while work continues.
func (g *guestWork) usable(ctx context.Context, id sandbox.ID) (Sandbox, Host, error) {
	row, err := g.store.Get(ctx, id)
	if err != nil {
		return Sandbox{}, nil, err
	}
	if g.lifecycle.resumesForUse(row) {
		if row, err = g.lifecycle.resumeForUse(ctx, row); err != nil {
			return Sandbox{}, nil, err
		}
	}
	if row.State != sandbox.Running {
		return Sandbox{}, nil, wrongState(row, sandbox.StatusRunning)
	}
	host, err := g.hostOf(row)
	if err != nil {
		return Sandbox{}, nil, err
	}
	g.activity.note(id)
	return row, host, nil
}

// guestFailed turns the error of work in a guest into the error for the caller. If
// the host's state differs from the row, the row is reconciled first, so that the
// next reader sees the truth. It returns the row as it is then. A sandbox that has
// ended has one reason, ReasonEnded, for every kind of work.
func (g *guestWork) guestFailed(ctx context.Context, host Host, row Sandbox, cause error) (Sandbox, error) {
	// The caller may have gone, but the row is reconciled all the same.
	ctx, cancel := g.detached(ctx, g.cfg.AskTimeout)
	defer cancel()
	if OutcomeUnknown(cause) || !(stateForbids(cause) || fault.Is(cause, fault.HostFailed)) {
		return row, g.rows.orEnded(ctx, row, guestFault(cause))
	}
	now, reconcileErr := g.rows.reconcileNow(ctx, host, row)
	reason := fault.ReasonOf(cause)
	switch {
	case endedOrEnding(now):
		return now, wrongState(now, sandbox.StatusRunning)
	case reason == reasonStopped || reason == ReasonSandboxNotFound:
		return now, withCleanup(fault.Wrap(cause, fault.WrongState, ReasonEnded, "sandbox %s has ended; create another", row.ID), reconcileErr)
	case reason == ReasonNotRunning && reconcileErr == nil && now.State != sandbox.Running:
		return now, wrongState(now, sandbox.StatusRunning)
	}
	return now, withCleanup(guestFault(cause), reconcileErr)
}
