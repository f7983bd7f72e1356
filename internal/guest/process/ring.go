package process

// space returns the free bytes of the ring, after growing it for want bytes where the
// limit and the room allow it.
func (j *journal) space(want int) int {
	held := int(j.end - j.start)
	for len(j.ring) < held+want && len(j.ring) < j.limit {
		size := min(max(2*len(j.ring), firstRing), j.limit)
		more := size - len(j.ring)
		if len(j.ring) == 0 {
			j.room.give(-more) // every journal may have its first ring
		} else if !j.room.take(more) {
			break
		}
		j.resize(size)
	}
	return len(j.ring) - held
}

// resize moves the content to a ring of size bytes.
func (j *journal) resize(size int) {
	var ring []byte
	if size == firstRing {
		ring = chunks.Get().(*[pipeChunk]byte)[:]
	} else {
		ring = make([]byte, size)
	}
	for at := j.start; at < j.end; {
		old := j.ring[at%int64(len(j.ring)):]
		old = old[:min(int64(len(old)), j.end-at)]
		at += int64(copy(ring[at%int64(size):], old))
	}
	j.recycle()
	j.ring = ring
}

// recycle hands the ring to the next command that needs one of its size.
func (j *journal) recycle() {
	if len(j.ring) == pipeChunk {
		chunks.Put((*[pipeChunk]byte)(j.ring))
	}
	j.ring = nil
}

// drop removes all output of a closed journal and returns the freed bytes.
func (j *journal) drop() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.evict(j.end)
	return j.releaseLocked()
}

// forget is drop, which the end of the last subscription does if there is one.
func (j *journal) forget() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.subs) > 0 {
		j.brief = true
		return 0
	}
	j.evict(j.end)
	return j.releaseLocked()
}

func (j *journal) releaseLocked() int {
	freed := len(j.ring)
	j.recycle()
	j.released = true
	return freed
}
