package host

import (
	"context"

	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// SetEgress replaces the limits of outgoing traffic of a sandbox that runs or is paused,
// and returns the sandbox. The new limits are in the journal before they are in force. A
// sandbox that runs has them when SetEgress returns: connections to addresses that are
// denied now are cut. A paused one gets them with its next network, before its VM runs.
// The same limits again succeed and change nothing. On error the old limits hold.
func (m *Manager) SetEgress(ctx context.Context, ref sandbox.Ref, limits sandbox.Egress) (Sandbox, error) {
	return m.lifecycle(ctx, request{op: journal.OpEgress, ref: ref, egress: &limits})
}

func (m *machine) setEgress(ctx context.Context, limits sandbox.Egress) error {
	before := m.rec.Spec
	spec := before
	spec.Egress = limits
	if err := spec.Validate(); err != nil {
		return err
	}
	if limits.Equal(before.Egress) {
		return nil
	}
	m.rec.Spec = spec
	err := m.applyEgress(ctx)
	if ctx.Err() != nil {
		return err // the next agent reads the journal
	}
	if err != nil {
		m.rec.Spec = before
	}
	if m.rec.State == sandbox.Running {
		m.conclude(ctx, sandbox.Running)
	}
	if err == nil {
		m.publish(m.rec.State)
	}
	return err
}

// applyEgress writes the record, which has new limits, and then gives them to the network
// of a sandbox that runs.
func (m *machine) applyEgress(ctx context.Context) error {
	if m.rec.State == sandbox.Paused {
		return m.savePause() // a paused sandbox is durable, and so are its limits
	}
	m.begin(journal.OpEgress)
	return m.step(ctx, journal.StepEgressApply, func(context.Context) error { return m.relimitEgress() })
}

// limitEgress limits the connections of the body's guest, whose slot must be new.
func (b *body) limitEgress() error {
	limits := b.rec.Spec.Egress
	if !limits.Limited() {
		return nil
	}
	return b.Slot.Limit(limits.Deny, limits.Allow)
}

// relimitEgress gives the slot the limits of the record, whichever it had.
func (b *body) relimitEgress() error {
	return b.Slot.Relimit(b.rec.Spec.Egress.Deny, b.rec.Spec.Egress.Allow)
}
