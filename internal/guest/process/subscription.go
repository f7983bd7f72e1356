package process

import "time"

// Subscription is one reader of a command's output. One goroutine calls Next.
type Subscription struct {
	journal *journal
	ready   chan struct{}
	auto    bool
	first   int64 // the offset at which it began

	// The journal's mu protects the following.
	at    int64 // the offset of the next byte
	holds bool  // output from at on is not removed
	moved time.Time
	gone  bool
}

// wake makes Ready readable.
func (s *Subscription) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Ready receives a value when Next may have more to return.
func (s *Subscription) Ready() <-chan struct{} { return s.ready }

// Next copies the next piece of one stream into buf and returns it, or tells of a
// piece that the journal no longer has. ok is false if there is nothing now; ended
// says that there never will be.
func (s *Subscription) Next(buf []byte) (piece Output, ok, ended bool) {
	j := s.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	if s.auto && s.first <= j.acked { // or it has not got all output before at
		j.ackLocked(s.at)
	}
	switch {
	case s.gone:
		return Output{}, false, true
	case s.at < j.start:
		piece = Output{Kind: Dropped, Offset: s.at, Bytes: j.start - s.at}
	case s.at == j.end:
		return Output{}, false, j.closed
	default:
		piece = j.piece(s.at, buf)
	}
	s.at += piece.Bytes
	j.taken = max(j.taken, s.at)
	s.holds, s.moved = true, time.Now()
	j.changed.Broadcast()
	return piece, true, false
}

// piece returns the piece of one stream at the offset at, as much as buf takes.
func (j *journal) piece(at int64, buf []byte) Output {
	i := 0
	for j.runs[i].end <= at {
		i++
	}
	n := min(int64(len(buf)), j.runs[i].end-at)
	for done := int64(0); done < n; {
		done += int64(copy(buf[done:n], j.ring[(at+done)%int64(len(j.ring)):]))
	}
	return Output{Kind: j.runs[i].kind, Offset: at, Data: buf[:n], Bytes: n}
}

// Detach ends the subscription. The command continues. It is idempotent.
func (s *Subscription) Detach() {
	j := s.journal
	j.mu.Lock()
	s.gone = true
	_, attached := j.subs[s]
	delete(j.subs, s)
	j.changed.Broadcast()
	freed := 0
	if attached && j.brief && j.closed && len(j.subs) == 0 && !j.released {
		j.evict(j.end)
		freed = j.releaseLocked()
	}
	j.mu.Unlock()
	j.room.give(freed)
}
