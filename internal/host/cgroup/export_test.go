package cgroup

import "slices"

// Enforced lists the controllers (memory, cpu, pids) whose limits hold.
func (m *Manager) Enforced() []string { return slices.Clone(m.limits) }
