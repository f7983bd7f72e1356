package filesystem

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Limits of Watchers.
const (
	maxWatchers     = 64
	maxQueuedEvents = 10_000
	// abandonedAfter is the time without a fetch after which a watcher makes room for a
	// new one: its client has gone without removing it.
	abandonedAfter = 10 * time.Minute
)

// Watchers are watches whose events are queued until they are fetched.
//
// Invariants: every watcher has one goroutine, which Remove and Close end and wait for, and
// which ends when an abandoned watcher makes room; a queue never exceeds maxQueuedEvents:
// the watch fails instead, and the next Fetch returns the failure.
type Watchers struct {
	files   *Files
	running sync.WaitGroup

	mu  sync.Mutex // protects the following
	all map[string]*watcher
}

type watcher struct {
	watch  *Watch
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex // protects the following
	events  []Event
	err     error
	fetched time.Time // or created
}

// NewWatchers returns an empty set of watchers of files.
func NewWatchers(files *Files) *Watchers {
	return &Watchers{files: files, all: make(map[string]*watcher)}
}

// Create starts a watcher and returns its id. See Files.Watch for errors.
func (s *Watchers) Create(spec WatchSpec) (string, error) {
	watch, err := s.files.Watch(spec)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) >= maxWatchers && !s.dropAbandonedLocked() {
		_ = watch.Close()
		return "", fault.New(fault.Quota, "too_many_watchers", "there may be at most %d watchers at once", maxWatchers)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{watch: watch, cancel: cancel, done: make(chan struct{}), fetched: time.Now()}
	id := rand.Text()
	s.all[id] = w
	s.running.Go(func() {
		defer close(w.done)
		defer watch.Close()
		w.fail(watch.Run(ctx, w.put))
	})
	return id, nil
}

// dropAbandonedLocked removes the watcher whose events nobody has fetched for the longest
// time, if that is long ago. The caller holds mu.
func (s *Watchers) dropAbandonedLocked() bool {
	oldest, at := "", time.Now().Add(-abandonedAfter)
	for id, w := range s.all {
		w.mu.Lock()
		if w.fetched.Before(at) {
			oldest, at = id, w.fetched
		}
		w.mu.Unlock()
	}
	if oldest == "" {
		return false
	}
	s.all[oldest].cancel()
	delete(s.all, oldest)
	return true
}

func (w *watcher) put(e Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.events) >= maxQueuedEvents {
		return fault.New(fault.Quota, "watch_overflow", "more than %d changes were not fetched: some were lost", maxQueuedEvents)
	}
	w.events = append(w.events, e)
	return nil
}

func (w *watcher) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

func errNoWatcher() error {
	return fault.New(fault.NotFound, "watcher_not_found", "there is no watcher with this id")
}

// Fetch returns and forgets the events of a watcher since the last fetch, all that have
// happened before the call.
func (s *Watchers) Fetch(id string) ([]Event, error) {
	s.mu.Lock()
	w := s.all[id]
	s.mu.Unlock()
	if w == nil {
		return nil, errNoWatcher()
	}
	select {
	case <-w.done:
	default:
		if err := w.watch.Drain(w.put); err != nil {
			w.fail(err)
			w.cancel()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	events := w.events
	w.events, w.fetched = nil, time.Now()
	if len(events) > 0 {
		return events, nil
	}
	return nil, w.err
}

// Remove ends a watcher.
func (s *Watchers) Remove(id string) error {
	s.mu.Lock()
	w := s.all[id]
	delete(s.all, id)
	s.mu.Unlock()
	if w == nil {
		return errNoWatcher()
	}
	w.cancel()
	<-w.done
	return nil
}

// Close ends every watcher.
func (s *Watchers) Close() {
	s.mu.Lock()
	all := s.all
	s.all = make(map[string]*watcher)
	s.mu.Unlock()
	for _, w := range all {
		w.cancel()
	}
	s.running.Wait()
}
