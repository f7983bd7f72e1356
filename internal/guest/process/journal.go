package process

import (
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

const (
	// firstRing is the size in bytes of the first ring of a journal. Every journal may
	// have it, however much the others hold.
	firstRing = 32 << 10
	// maxRuns is the number of pieces of alternating streams that a journal holds.
	maxRuns = 2048
	// stallPatience is the time after which a reader that takes nothing no longer holds
	// a command back whose oldest output may be dropped.
	stallPatience = 10 * time.Second
)

// journal holds the newest output of a command, both streams in the order of their
// arrival, and hands it to subscriptions. Offsets count bytes of output.
//
// Invariants:
//   - it has the bytes from start to end, at most limit of them;
//   - until the main process has ended, a byte is removed for a newer one only if no
//     subscription that holds still has to take it and, with block, only if it was
//     acknowledged; otherwise publish waits;
//   - dropped counts the removed bytes that no subscription has taken;
//   - after close nothing is added.
//
// A journal's mu may be held while the room is asked for memory. The room locks closed
// journals only, and nobody asks for memory while holding the mu of one.
type journal struct {
	room *room
	// block makes the command wait for acknowledgements instead of dropping output.
	block bool
	// brief drops output while no subscription is attached, and waits for a slow one
	// without limit.
	brief bool

	mu         sync.Mutex // protects the following
	changed    sync.Cond  // of mu: space, subscriptions or closed may have changed
	limit      int
	ring       []byte // the byte at offset o is ring[o%len(ring)]
	start, end int64
	runs       []run // of the bytes from start to end, oldest first
	taken      int64 // the highest offset up to which a subscription took output
	acked      int64
	dropped    int64
	final      bool // the main process has ended: publish drops output instead of waiting
	subs       map[*Subscription]struct{}
	closed     bool
	released   bool // the ring is given back
}

// run is a piece of one stream that ends at the offset end.
type run struct {
	kind Kind
	end  int64
}

func newJournal(r *room, limit int) *journal {
	j := &journal{room: r, limit: max(limit, firstRing), subs: make(map[*Subscription]struct{})}
	j.changed.L = &j.mu
	return j
}

// publish appends data. It waits as the invariants say.
func (j *journal) publish(kind Kind, data []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(data) > 0 {
		if j.brief && len(j.subs) == 0 {
			j.skip(int64(len(data)))
			return
		}
		n := j.await(kind, len(data))
		j.append(kind, data[:n])
		data = data[n:]
	}
}

// skip counts n bytes that are not kept.
func (j *journal) skip(n int64) {
	j.end += n
	j.dropped += n
	j.start, j.runs = j.end, j.runs[:0]
}

// append stores data, for which there is space, and wakes the subscriptions.
func (j *journal) append(kind Kind, data []byte) {
	for at := j.end; len(data) > 0; {
		n := copy(j.ring[at%int64(len(j.ring)):], data)
		data, at = data[n:], at+int64(n)
		j.end = at
	}
	if last := len(j.runs) - 1; last >= 0 && j.runs[last].kind == kind {
		j.runs[last].end = j.end
	} else {
		j.runs = append(j.runs, run{kind, j.end})
	}
	for s := range j.subs {
		s.wake()
	}
}

// await returns how many of the next want bytes can be stored now, at least 1. It
// removes old output, or waits until it may.
func (j *journal) await(kind Kind, want int) int {
	for {
		if j.brief && len(j.subs) == 0 {
			j.evict(j.end) // publish skips the rest next time
		}
		space := j.space(want)
		fresh := len(j.runs) == 0 || j.runs[len(j.runs)-1].kind != kind
		crowded := fresh && len(j.runs) >= maxRuns
		if space > 0 && !crowded {
			return min(space, want)
		}
		least := j.start + 1
		if crowded {
			least = j.runs[0].end
		}
		floor := j.floor()
		if j.final && len(j.ring) > 0 {
			floor = j.end
		}
		if floor >= least {
			j.evict(min(floor, max(least, j.start+int64(want))))
			continue
		}
		j.wait()
	}
}

// floor returns the offset before which output may be removed.
func (j *journal) floor() int64 {
	floor := j.end
	if j.block {
		floor = min(floor, j.acked)
	}
	for s := range j.subs {
		if s.holds {
			floor = min(floor, s.at)
		}
	}
	return floor
}

// evict removes the output before the offset to.
func (j *journal) evict(to int64) {
	if to <= j.start {
		return
	}
	j.dropped += max(to-max(j.start, j.taken), 0)
	j.start = to
	gone := 0
	for gone < len(j.runs) && j.runs[gone].end <= to {
		gone++
	}
	j.runs = j.runs[:copy(j.runs, j.runs[gone:])]
}

// wait returns when something has changed. A subscription that has taken nothing for
// stallPatience no longer holds, unless the journal is brief.
func (j *journal) wait() {
	if j.brief {
		j.changed.Wait()
		return
	}
	timer := time.AfterFunc(stallPatience, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		for s := range j.subs {
			if time.Since(s.moved) >= stallPatience {
				s.holds = false
			}
		}
		j.changed.Broadcast()
	})
	defer timer.Stop()
	j.changed.Wait()
}

// ack says that the output before offset has arrived where it was wanted. Offsets
// beyond the end mean the end.
func (j *journal) ack(offset int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ackLocked(offset)
}

func (j *journal) ackLocked(offset int64) {
	if offset = min(offset, j.end); offset > j.acked {
		j.acked = offset
		j.taken = max(j.taken, offset)
		j.changed.Broadcast()
	}
}

// finish makes space for the output that is in the pipes of a command whose main
// process has ended, so that its end waits for no reader. Without memory for it the
// oldest output is dropped.
func (j *journal) finish() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.brief {
		j.final = true
		j.limit += drainLimit
		j.changed.Broadcast()
	}
}

// close ends the journal. It must come after the last publish.
func (j *journal) close() {
	j.mu.Lock()
	j.closed = true
	for s := range j.subs {
		s.wake()
	}
	freed := 0
	if held := int(j.end - j.start); !j.brief && held > 0 && held < len(j.ring) {
		freed = len(j.ring) - held
		j.resize(held)
	}
	if j.brief && len(j.subs) == 0 || j.end == j.start {
		freed += j.releaseLocked()
	}
	kept := !j.released
	j.mu.Unlock()
	j.room.give(freed)
	if kept && !j.brief {
		j.room.retire(j)
	}
}

// Extent is the part of a command's output that is held.
type Extent struct {
	// Start and End are the offsets of the first held byte and after the last one.
	Start, End int64
	// Acked is the offset before which output was acknowledged.
	Acked int64
	// Dropped counts bytes that were removed before any reader took them.
	Dropped int64
}

func (j *journal) extent() Extent {
	j.mu.Lock()
	defer j.mu.Unlock()
	return Extent{Start: j.start, End: j.end, Acked: j.acked, Dropped: j.dropped}
}

// subscribe attaches a reader at the offset from; a negative one is the end. A reader
// that begins at an offset has everything before it, so that from is an
// acknowledgement. With auto, output counts as acknowledged once the reader asks for
// the next piece, unless output before the reader's first byte is not.
func (j *journal) subscribe(from int64, auto bool) (*Subscription, error) {
	s := &Subscription{journal: j, ready: make(chan struct{}, 1), auto: auto, holds: true, moved: time.Now()}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.subs) >= MaxSubscribers {
		return nil, fault.New(fault.Quota, "too_many_readers", "a process may have at most %d readers at once", MaxSubscribers)
	}
	if from > j.end {
		return nil, fault.New(fault.Invalid, "invalid_offset", "the process has written %d bytes, so that no output begins at offset %d", j.end, from)
	}
	if s.at = from; from < 0 {
		s.at = j.end
	} else {
		j.ackLocked(from)
	}
	s.first = s.at
	j.subs[s] = struct{}{}
	s.wake()
	return s, nil
}
