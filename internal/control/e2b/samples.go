package e2b

import (
	"sync"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

const (
	// keptSamples is the number of samples that are kept of one sandbox.
	keptSamples = 60
	// maxKept is the number of sandboxes of which samples are kept. When there are
	// more, all are dropped.
	maxKept = 1024
)

// samples holds the newest samples that clients have asked for, so that a client that
// polls gets a history. The zero value is ready to use, and safe for concurrent use.
//
// Invariants: at most maxKept sandboxes, and keptSamples of each, in the order of time.
type samples struct {
	mu sync.Mutex // protects the following
	of map[sandbox.ID][]metricJSON
}

func (s *samples) keep(id sandbox.ID, m metricJSON) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil || s.of[id] == nil && len(s.of) >= maxKept {
		s.of = make(map[sandbox.ID][]metricJSON)
	}
	kept := append(s.of[id], m)
	if len(kept) > keptSamples {
		kept = append([]metricJSON(nil), kept[len(kept)-keptSamples:]...)
	}
	s.of[id] = kept
}

// between returns the samples of a sandbox from one time to another, in seconds since
// 1970, both inclusive.
func (s *samples) between(id sandbox.ID, from, to int64) []metricJSON {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []metricJSON{}
	for _, m := range s.of[id] {
		if from <= m.TimestampUnix && m.TimestampUnix <= to {
			out = append(out, m)
		}
	}
	return out
}
