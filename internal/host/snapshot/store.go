package snapshot

import (
	"log/slog"
	"sync"

	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// Options are the surroundings of a Store. All are fixed for its life.
type Options struct {
	Drivers vmm.Drivers
	Log     *slog.Logger
	// Root is the agent's data directory. Builds outside of it are never removed.
	Root string
	// Named and Templates are the directories of bases that the agent owns.
	// SharedTemplates, which may be Templates, is where it publishes template
	// snapshots, and may belong to several agents.
	Named, Templates, SharedTemplates string
	// Current reports whether new sandboxes are restored from the template
	// snapshot.
	Current func(Dir) bool
}

// Store keeps the snapshots of one host. Its methods may be called concurrently.
//
// Invariants: a directory with users is never removed; one that is being removed
// gets no new user.
type Store struct {
	Options

	taking sync.Map // names of snapshots that are being taken

	mu    sync.Mutex  // protects the following
	users map[Dir]int // the sandboxes that map each base's files, or need them to resume
}

// New returns a store without users.
func New(o Options) *Store { return &Store{Options: o, users: make(map[Dir]int)} }

// Taking keeps the directory called name, in which a snapshot is being taken,
// from being collected until done is called.
func (s *Store) Taking(name string) (done func()) {
	s.taking.Store(name, true)
	return func() { s.taking.Delete(name) }
}

func (s *Store) isTaking(name string) bool {
	_, ok := s.taking.Load(name)
	return ok
}

// Usage is the space in bytes that dir takes, as far as it can be told.
func Usage(dir Dir) uint64 {
	n, _ := disk.Usage(string(dir)) // 0 if the directory has gone meanwhile
	return uint64(n)
}
