package process

import (
	"cmp"
	"slices"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// List returns the running commands, oldest first.
func (t *Table) List() []*Process {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []*Process
	for _, p := range t.running {
		if p.running() {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b *Process) int { return cmp.Compare(a.key, b.key) })
	return list
}

// Records returns the commands with an ID, running and ended, oldest first.
func (t *Table) Records() []*Process {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]*Process, 0, len(t.ids))
	for _, p := range t.ids {
		if p != nil {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b *Process) int { return cmp.Compare(a.key, b.key) })
	return list
}

// ByID finds a command by its ID.
func (t *Table) ByID(id string) (*Process, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.ids[id]; p != nil {
		return p, nil
	}
	return nil, fault.New(fault.NotFound, "process_not_found", "there is no process with this id; it was never started, or ended too long ago")
}

// ByPID finds a command by the number of its main process.
func (t *Table) ByPID(pid int) (*Process, error) {
	p := t.find(func(p *Process) bool { return p.pid == pid })
	if p == nil {
		return nil, fault.New(fault.NotFound, "process_not_found", "there is no process with pid %d", pid)
	}
	return p, nil
}

// ByTag finds the newest command with tag.
func (t *Table) ByTag(tag string) (*Process, error) {
	p := t.find(func(p *Process) bool { return p.spec.Label.Tag != nil && *p.spec.Label.Tag == tag })
	if p == nil {
		return nil, fault.New(fault.NotFound, "process_not_found", "there is no process with this tag")
	}
	return p, nil
}

// find returns the newest running match, else the newest ended one, else nil.
func (t *Table) find(match func(*Process) bool) *Process {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found *Process
	for _, p := range t.running {
		if match(p) && (found == nil || p.key > found.key) {
			found = p
		}
	}
	for i := len(t.finished) - 1; found == nil && i >= 0; i-- {
		if match(t.finished[i]) {
			found = t.finished[i]
		}
	}
	return found
}
