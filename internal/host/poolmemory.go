package host

import "context"

// Warm clones that share the memory of their template cost little. Those of a
// driver whose VMs share no memory are counted whole, and give way to sandboxes.

// cloneMemoryMB is the memory, in MiB, that is set aside for the warm clones that
// wait.
func (m *Manager) cloneMemoryMB() (total int) {
	m.pools.mu.Lock()
	defer m.pools.mu.Unlock()
	for _, clones := range m.pools.ready {
		for _, c := range clones {
			if !c.shape().SharesMemory {
				total += m.promisedMemoryMB(c.rec.Spec)
			}
		}
	}
	return total
}

// makeRoom ends the warm clones whose memory the sandboxes have been promised,
// among them one that is about to start.
func (m *Manager) makeRoom(ctx context.Context) {
	for m.memoryIsShort() {
		c := m.pools.takeAny()
		if c == nil {
			return
		}
		<-c.left
		c.discard(ctx)
	}
}

func (m *Manager) memoryIsShort() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	clones := m.cloneMemoryMB()
	return clones > 0 && m.heldMemoryLocked()+clones > m.memoryMB()
}

// takeAny removes a clone that shares no memory from the pool, or returns nil.
func (p *pools) takeAny() *warmClone {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, clones := range p.ready {
		if len(clones) > 0 && !clones[0].shape().SharesMemory {
			p.ready[key] = clones[1:]
			close(clones[0].taken)
			return clones[0]
		}
	}
	return nil
}
