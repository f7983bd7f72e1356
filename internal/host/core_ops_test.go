package host_test

import (
	"context"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// corePool keeps one warm clone.
var corePool = host.PoolKind{Spec: coreSpec, Size: 1}

const coreSnapshot = sandbox.SnapshotID("core00000000000000000000")

// operation is one operation of the host core under test.
type operation struct {
	name string
	// table is the name of its steps in host.Steps. steps, unless nil, are those
	// of them that this case goes through.
	table string
	steps []string
	// empty: the operation starts without template snapshots; pooled: with a
	// warm clone.
	empty, pooled bool
	// prepare brings the subject, a running sandbox, into the state that the
	// operation starts from.
	prepare func(c *core, subject sandbox.Ref)
	// act does the operation to the subject, or for a creation to fresh.
	act func(ctx context.Context, c *core, subject, fresh sandbox.Ref) error
	// after are the states that the sandbox may be in if the operation failed or
	// was cut off, and done the one if it succeeded. "" is none.
	creates bool
	after   []sandbox.State
	done    sandbox.State
}

func pauseSubject(c *core, ref sandbox.Ref) {
	_, err := c.Pause(c.t.Context(), ref)
	check(c.t, err)
}

func pauseSubjectsDisk(c *core, ref sandbox.Ref) {
	_, err := c.PauseDisk(c.t.Context(), ref)
	check(c.t, err)
}

func takeSnapshot(c *core, ref sandbox.Ref) {
	_, err := c.Snapshot(c.t.Context(), ref, coreSnapshot, false)
	check(c.t, err)
}

func takeDiskSnapshot(c *core, ref sandbox.Ref) {
	_, err := c.SnapshotDisk(c.t.Context(), ref, coreSnapshot, false)
	check(c.t, err)
}

func takeDiskSnapshotPaused(c *core, ref sandbox.Ref) {
	pauseSubjectsDisk(c, ref)
	takeDiskSnapshot(c, ref)
}

func fork(ctx context.Context, c *core, _, fresh sandbox.Ref) error {
	_, err := c.CreateFrom(ctx, fresh, coreSpec, coreSnapshot)
	return err
}

func create(ctx context.Context, c *core, _, fresh sandbox.Ref) error {
	_, err := c.Create(ctx, fresh, coreSpec)
	return err
}

func snapshot(ctx context.Context, c *core, subject, _ sandbox.Ref) error {
	_, err := c.Snapshot(ctx, subject, coreSnapshot, false)
	return err
}

func snapshotDisk(ctx context.Context, c *core, subject, _ sandbox.Ref) error {
	_, err := c.SnapshotDisk(ctx, subject, coreSnapshot, false)
	return err
}

// coreOperations are all operations, each in the states that it may begin in.
func coreOperations() []operation {
	created := []sandbox.State{"", sandbox.Stopped}
	either, paused := []sandbox.State{sandbox.Running, sandbox.Paused}, []sandbox.State{sandbox.Paused}
	destroyed := []sandbox.State{"", sandbox.Stopped}
	ofPaused := []string{
		journal.StepSnapshotPrepare, journal.StepSnapshotSave, journal.StepSnapshotDisk,
		journal.StepSnapshotSeal, journal.StepSnapshotCommit,
	}
	destroy := func(ctx context.Context, c *core, subject, _ sandbox.Ref) error { return c.Destroy(ctx, subject, "") }
	resume := func(ctx context.Context, c *core, subject, _ sandbox.Ref) error {
		subject.Generation++
		_, err := c.Resume(ctx, subject)
		return err
	}
	return []operation{
		{name: "create", table: "create", creates: true, act: create, after: created, done: sandbox.Running},
		{name: "template build", table: "template", empty: true, creates: true, act: create, after: created, done: sandbox.Running},
		{name: "fork", table: "create", creates: true, prepare: takeSnapshot, act: fork, after: created, done: sandbox.Running},
		{name: "fork without memory", table: "create", creates: true, prepare: takeDiskSnapshot, act: fork, after: created, done: sandbox.Running},
		{name: "fork of a pause without memory", table: "create", creates: true, prepare: takeDiskSnapshotPaused, act: fork, after: created, done: sandbox.Running},
		{name: "create from the pool", table: "assign", pooled: true, creates: true, act: create, after: created, done: sandbox.Running},
		{name: "pause", table: "pause", after: either, done: sandbox.Paused,
			act: func(ctx context.Context, c *core, subject, _ sandbox.Ref) error {
				_, err := c.Pause(ctx, subject)
				return err
			}},
		{name: "resume", table: "resume", prepare: pauseSubject, act: resume, after: either, done: sandbox.Running},
		{name: "pause without memory", table: "pause", after: either, done: sandbox.Paused,
			act: func(ctx context.Context, c *core, subject, _ sandbox.Ref) error {
				_, err := c.PauseDisk(ctx, subject)
				return err
			}},
		{name: "resume without memory", table: "resume", prepare: pauseSubjectsDisk, act: resume, after: paused, done: sandbox.Running},
		{name: "reboot of a full pause", table: "resume", prepare: pauseSubject, after: paused, done: sandbox.Running,
			act: func(ctx context.Context, c *core, subject, _ sandbox.Ref) error {
				subject.Generation++
				_, err := c.Reboot(ctx, subject)
				return err
			}},
		{name: "snapshot", table: "snapshot", act: snapshot, after: []sandbox.State{sandbox.Running}, done: sandbox.Running},
		{name: "snapshot without memory", table: "snapshot", act: snapshotDisk, after: []sandbox.State{sandbox.Running}, done: sandbox.Running},
		{name: "snapshot of a paused sandbox", table: "snapshot", prepare: pauseSubject, act: snapshot, steps: ofPaused, after: paused, done: sandbox.Paused},
		{name: "snapshot of a pause without memory", table: "snapshot", prepare: pauseSubjectsDisk, act: snapshotDisk, steps: ofPaused, after: paused, done: sandbox.Paused},
		{name: "egress", table: "egress", after: []sandbox.State{sandbox.Running}, done: sandbox.Running,
			act: func(ctx context.Context, c *core, subject, _ sandbox.Ref) error {
				_, err := c.SetEgress(ctx, subject, sandbox.DenyAll())
				return err
			}},
		{name: "destroy", table: "destroy", act: destroy, after: destroyed, done: ""},
		{name: "destroy a paused sandbox", table: "destroy", prepare: pauseSubject, act: destroy, after: destroyed, done: ""},
	}
}

// begin opens a core in which o can act, beside a sandbox that must not notice.
func (o operation) begin(t *testing.T, k kind) (c *core, bystander, subject, fresh sandbox.Ref) {
	t.Helper()
	if o.empty {
		k.templates = fastTemp(t)
	}
	c = newCoreOf(t, k)
	fresh = newRef()
	if o.empty {
		return c, sandbox.Ref{}, fresh, fresh
	}
	bystander, subject = c.create(), c.create()
	if o.prepare != nil {
		o.prepare(c, subject)
	}
	if o.creates {
		subject = fresh
	}
	if o.pooled {
		c.restart(corePool)
		awaitPool(t, c.Manager, 1)
	}
	return c, bystander, subject, fresh
}

func (o operation) stepNames() []string {
	if o.steps != nil {
		return o.steps
	}
	return journal.Steps()[o.table]
}
