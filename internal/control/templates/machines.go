package templates

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// touchInterval is the time between two signs of activity for each machine of a build. It is
// shorter than the time after which an idle machine ends.
var touchInterval = 2 * time.Minute

// touchTimeout bounds one of them.
const touchTimeout = 30 * time.Second

// machineSet is the machines of an attempt, which are destroyed at its end. It is safe for
// concurrent use.
type machineSet struct {
	mu  sync.Mutex
	ids []sandbox.ID
	// refused are those of ids whose destruction failed. They are destroyed later, and not
	// kept alive.
	refused map[sandbox.ID]bool
}

func (s *machineSet) add(id sandbox.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids = append(s.ids, id)
}

func (s *machineSet) remove(id sandbox.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids = slices.DeleteFunc(s.ids, func(m sandbox.ID) bool { return m == id })
	delete(s.refused, id)
}

// refuse notes that the destruction of a machine failed.
func (s *machineSet) refuse(id sandbox.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused == nil {
		s.refused = map[sandbox.ID]bool{}
	}
	s.refused[id] = true
}

// needed returns the machines that nothing has tried to destroy.
func (s *machineSet) needed() []sandbox.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.ids), func(id sandbox.ID) bool { return s.refused[id] })
}

// all returns the machines.
func (s *machineSet) all() []sandbox.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ids)
}

// create makes a machine, which is destroyed when the attempt ends, also if the outcome of
// its create is unknown. An error is none of the author's.
func (b *builder) create(ctx context.Context, m control.NewMachine) (*machine, error) {
	m.ID, m.Build, m.Runtime = sandbox.NewID(), string(b.job.id), b.build.Runtime
	m.VCPUs, m.MemoryMB, m.DiskMB = b.build.VCPUs, b.build.MemoryMB, b.build.DiskMB
	b.machines.add(m.ID)
	row, err := b.Machines.CreateMachine(ctx, m)
	if err != nil {
		if fault.ReasonOf(err) == ReasonTemplateNotFound {
			err = orMissingHost(b.hosts(ctx), m.Image, err)
		}
		return nil, ours(err)
	}
	return &machine{id: row.ID, sizes: sizes{row.Spec.VCPUs, row.Spec.MemoryMB, row.Spec.DiskMB}, made: map[string]bool{}}, nil
}

// hosts returns the hosts, and none if they cannot be listed.
func (b *builder) hosts(ctx context.Context) []control.HostInfo {
	hosts, err := b.Machines.Hosts(ctx)
	if err != nil {
		return nil
	}
	return hosts
}

// orMissingHost returns err, which says that no host has an image or template. If that is not
// known, because a host with it does not answer or a host has not reported yet, it returns an
// error that a build waits for.
func orMissingHost(hosts []control.HostInfo, name string, err error) error {
	for _, h := range hosts {
		if !h.Reachable && (h.SeenAt.IsZero() || slices.Contains(h.Templates, name)) {
			return fault.Wrap(err, fault.HostFailed, reasonNoHost, "the host %s does not answer or has not reported yet", h.ID)
		}
	}
	if len(hosts) == 0 {
		return fault.Wrap(err, fault.HostFailed, reasonNoHost, "no host has reported yet")
	}
	return err
}

// release destroys a machine that is needed no more.
func (b *builder) release(ctx context.Context, id sandbox.ID) {
	if err := b.Machines.Destroy(ctx, id); err != nil && !fault.Is(err, fault.NotFound) {
		b.machines.refuse(id) // cleanUp repeats it
		return
	}
	b.machines.remove(id)
}

// cleanUp destroys the machines. The next call repeats those that fail; after the last call of a
// build the maintenance does so.
func (b *builder) cleanUp() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, id := range b.machines.all() {
		if err := b.Machines.Destroy(ctx, id); err != nil && !fault.Is(err, fault.NotFound) {
			b.Log.Warn("a machine of a build could not be destroyed", "build", b.job.id, "machine", id, "err", err)
			b.machines.refuse(id)
			continue
		}
		b.machines.remove(id)
	}
}

// keepAlive touches the machines until ctx ends. Otherwise one would end as idle while the
// files for it come from another one that is still being built.
func (b *builder) keepAlive(ctx context.Context) {
	for wait(ctx, touchInterval, nil) == nil {
		for _, id := range b.machines.needed() {
			touchCtx, cancel := context.WithTimeout(ctx, touchTimeout)
			_, _ = b.Machines.CallFile(touchCtx, id, control.FileStat{Path: "/"})
			cancel()
		}
	}
}
