package templates

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// stage is a stage of a build. All of it but the machine follows from plan and bases.
type stage struct {
	builder *builder
	number  int
	base    base
	// inherited is the stage that is the base; its steps come before.
	inherited *stage
	steps     []plan.Step

	// chain are the steps from the base on, those of the inherited stages included.
	chain []link
	made  *machine
}

// link is one step with the state and the key after it.
type link struct {
	stage *stage // whose step it is
	place int    // among the steps of its stage, from 1
	step  plan.Step
	state state
	key   string
	// keep makes a layer after the step: a stage ends here, or the next step is private.
	keep bool
	// private says that a secret was given to this step, or to one from which its files
	// come. The memory and the files of the machine are the caller's own from here on: no
	// layer is kept and none of another build is used.
	private bool
}

// machine is a sandbox in which steps run.
type machine struct {
	id    sandbox.ID
	sizes sizes
	// accounts are the users and groups that were read last; nil is unread.
	accounts *accounts
	// made are the directories that exist.
	made map[string]bool
}

// label returns the begin of a log line about l.
func (l link) label() string {
	return fmt.Sprintf("[stage %d %d/%d] %s", l.stage.number, l.place, len(l.stage.steps), l.step.Text)
}

// plan computes the chain.
func (s *stage) plan(ctx context.Context) error {
	b := s.builder
	size := s.base.sizes
	if size == (sizes{}) {
		size = sizes{b.build.VCPUs, b.build.MemoryMB, b.build.DiskMB}
	}
	state, key, private := s.base.state, digest(s.base.key, size.VCPUs, size.MemoryMB, size.DiskMB, b.build.Runtime, b.plan.ImageSettings), false
	if s.inherited != nil {
		s.chain = append(s.chain, s.inherited.chain...)
	}
	if n := len(s.chain); n > 0 {
		s.chain[n-1].keep = true
		state, key, private = s.chain[n-1].state, s.chain[n-1].key, s.chain[n-1].private
	}
	for i, step := range s.steps {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		expanded, err := state.expand(step)
		if b.planned += expandedSize(expanded); err == nil && b.planned > maxPlanned {
			err = fault.New(fault.Invalid, "invalid_plan", "the steps up to this one have more than %d bytes after the expansion of variables", maxPlanned)
		}
		if err != nil {
			return atStep(step.ID, step.Text, err)
		}
		extra, err := b.sourceKey(ctx, expanded)
		if err != nil {
			return atStep(step.ID, step.Text, err)
		}
		state, key = state.after(expanded), nextKey(key, expanded, extra)
		private = private || b.isPrivate(expanded)
		s.chain = append(s.chain, link{stage: s, place: i + 1, step: expanded, state: state, key: key, private: private})
	}
	if n := len(s.chain); n > 0 {
		s.chain[n-1].keep = true
	}
	if n := s.cacheable(); n > 0 {
		s.chain[n-1].keep = true // the last place for a layer
	}
	return nil
}

// isPrivate reports whether a step gets a secret, or files of a stage that got one.
func (b *builder) isPrivate(step plan.Step) bool {
	from := func(c plan.Copy) bool {
		if c.Stage == 0 {
			return false
		}
		chain := b.stages[c.Stage-1].chain
		return len(chain) > 0 && chain[len(chain)-1].private
	}
	switch {
	case step.Run != nil:
		return slices.ContainsFunc(step.Run.Binds, from) || slices.ContainsFunc(step.Run.Secrets, func(s plan.Secret) bool {
			_, given := b.inputs.Secrets[s.ID]
			return given
		})
	case step.Copy != nil:
		return from(*step.Copy)
	}
	return false
}

// state returns the state at the end of the stage.
func (s *stage) state() state { return s.stateAfter(len(s.chain)) }

// stateAfter returns the state after n links of the chain.
func (s *stage) stateAfter(n int) state {
	if n == 0 {
		return s.base.state
	}
	return s.chain[n-1].state
}

// key returns the key of the stage's content.
func (s *stage) key() string {
	if n := len(s.chain); n > 0 {
		return s.chain[n-1].key
	}
	return s.base.key
}

// machine returns a machine with the content of the stage. The first call makes it.
func (s *stage) machine(ctx context.Context) (*machine, error) {
	b := s.builder
	if s.made != nil {
		// It may have ended because nothing used it while another stage was built.
		if _, err := b.stat(ctx, s.made, "/"); err == nil || ctx.Err() != nil {
			return s.made, err
		}
		b.release(ctx, s.made.id)
		s.made = nil
	}
	from, done, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range s.chain[:done] {
		b.log.add("info", l.step.ID, "CACHED %s", l.label())
	}
	b.step += done
	if err := b.progress(ctx); err != nil {
		return nil, err
	}
	m, err := b.create(ctx, from)
	if err != nil {
		return nil, err
	}
	since := time.Duration(0)
	for i := done; i < len(s.chain); i++ {
		began := time.Now()
		if err := s.carryOut(ctx, m, i); err != nil {
			return nil, err
		}
		since += time.Since(began)
		b.step++
		if err := b.progress(ctx); err != nil {
			return nil, err
		}
		if (since >= layerWork || s.chain[i].keep) && !s.chain[i].private {
			if err := b.keepLayer(ctx, m, s.chain[i]); err != nil {
				return nil, err
			}
			since = 0
		}
	}
	s.made = m
	return m, nil
}

// begin returns the machine from which the stage starts, and the number of links of the
// chain that it has.
func (s *stage) begin(ctx context.Context) (control.NewMachine, int, error) {
	for most := s.cacheable(); ; {
		layer, n, err := s.findLayer(ctx, most)
		if err != nil {
			return control.NewMachine{}, 0, err
		}
		if n == 0 {
			return control.NewMachine{Image: s.base.image, Snapshot: s.base.snapshot, HostID: s.base.hostID}, 0, nil
		}
		usable, err := s.builder.usable(ctx, layer)
		if err != nil {
			return control.NewMachine{}, 0, err
		}
		if usable {
			return control.NewMachine{Snapshot: layer.Snapshot, HostID: layer.HostID}, n, nil
		}
		most = n - 1
	}
}

// cacheable returns the length of the longest part of the chain that can have a layer.
func (s *stage) cacheable() int {
	if i := slices.IndexFunc(s.chain, func(l link) bool { return l.private }); i >= 0 {
		return i
	}
	return len(s.chain)
}

// findLayer returns the layer after the longest part of the first most links of the chain,
// and its length. Where a step says so, only the build's own layers count.
func (s *stage) findLayer(ctx context.Context, most int) (Layer, int, error) {
	keys := make([]string, most)
	shared := most
	for i, l := range s.chain[:most] {
		keys[i] = l.key
		if l.step.NoCache && i < shared {
			shared = i
		}
	}
	if s.builder.plan.NoCache {
		shared = 0
	}
	if most == 0 {
		return Layer{}, 0, nil
	}
	length := func(l Layer) int { return 1 + slices.Index(keys, l.Key) }
	own, found, err := s.builder.Store.FindLayer(ctx, keys, s.builder.job.id)
	n := 0
	if err == nil && found {
		n = length(own)
	}
	if err != nil || shared <= n {
		return own, n, err
	}
	l, found, err := s.builder.Store.FindLayer(ctx, keys[:shared], "")
	if err != nil || !found || length(l) <= n {
		return own, n, err
	}
	return l, length(l), nil
}

// usable reports whether a machine can start from a layer. The row of one whose snapshot
// is gone is removed; one whose host does not answer now stays.
func (b *builder) usable(ctx context.Context, l Layer) (bool, error) {
	snap, err := b.Machines.GetKept(ctx, l.Snapshot)
	switch {
	case err != nil && !fault.Is(err, fault.NotFound):
		return false, err
	case err == nil && snap.Status == control.SnapshotReady:
		return b.reachable(ctx, snap.HostID), nil
	}
	if err := b.Store.RemoveLayer(ctx, l.Key, l.Snapshot); err != nil {
		return false, err
	}
	b.drop(ctx, l.Snapshot)
	return false, nil
}

// reachable reports whether a host answers. If that is unknown, it does.
func (b *builder) reachable(ctx context.Context, id string) bool {
	hosts := b.hosts(ctx)
	for _, h := range hosts {
		if h.ID == id {
			return h.Reachable
		}
	}
	return len(hosts) == 0
}

// keepLayer keeps the content of m as the layer after l. That it cannot be kept is no
// failure of the build.
func (b *builder) keepLayer(ctx context.Context, m *machine, l link) error {
	snap, err := b.Machines.KeepSnapshot(ctx, m.id, control.KeptSnapshot{Kind: control.KindLayer})
	if err != nil {
		if fault.ReasonOf(err) == control.ReasonEnded || ctx.Err() != nil {
			return err
		}
		b.Log.Warn("a layer of a build could not be kept", "build", b.job.id, "err", err)
		b.log.add("warn", l.step.ID, "the layer could not be kept: %s", fault.As(err).Public)
		return nil
	}
	old, err := b.Store.InsertLayer(ctx, Layer{
		Key: l.key, Snapshot: snap.ID, HostID: snap.HostID, Build: b.job.id, Bytes: snap.Bytes,
		CreatedAt: time.Now(), UsedAt: time.Now(),
	})
	if err != nil {
		return err // the row may be there; otherwise the maintenance drops the snapshot
	}
	b.drop(ctx, old)
	b.trim(ctx)
	return nil
}

// trim removes the layers that are too many.
func (s *Service) trim(ctx context.Context) {
	old, err := s.Store.TrimLayers(ctx, max(s.MaxLayers, 0), s.MaxLayerBytes)
	if err != nil {
		s.Log.Warn("the layers of builds could not be trimmed", "err", err)
		return
	}
	s.drop(ctx, old...)
}
