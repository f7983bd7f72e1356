package process

import (
	"sync"

	"golang.org/x/sys/unix"
)

// room is the memory that the journals of a table may hold together.
//
// Invariants: used is the size of all rings; only closed journals are in closed, and
// mu is held while one of those is locked, never the other way round.
type room struct {
	mu     sync.Mutex // protects the following
	used   int
	total  int
	closed []*journal // journals of ended commands, the oldest first
}

// take reserves n bytes. It drops the output of ended commands, the oldest first,
// where that makes the space.
func (r *room) take(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.used+n > r.total && len(r.closed) > 0 {
		r.used -= r.closed[0].drop()
		r.closed = r.closed[1:]
	}
	if r.used+n > r.total {
		return false
	}
	r.used += n
	return true
}

// give returns n bytes.
func (r *room) give(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used -= n
}

// retire makes a closed journal the next but all earlier ones to be dropped.
func (r *room) retire(j *journal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = append(r.closed, j)
}

// forget drops the output of j, whose command is forgotten, once nobody reads it.
func (r *room) forget(j *journal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, c := range r.closed {
		if c == j {
			r.closed = append(r.closed[:i], r.closed[i+1:]...)
			break
		}
	}
	r.used -= j.forget()
}

// maxJournalRoom is the memory in bytes that journals may hold in a guest with much
// memory.
const maxJournalRoom = 64 << 20

// journalShare is the part of the guest's memory, one of so many, that journals may
// hold.
const journalShare = 12

// journalRoom returns the memory in bytes that the journals of this guest may hold.
func journalRoom() int {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return MaxJournal
	}
	memory := uint64(info.Totalram) * uint64(max(info.Unit, 1))
	return int(min(memory/journalShare, maxJournalRoom))
}
