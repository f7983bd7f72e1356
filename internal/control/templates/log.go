package templates

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

const (
	// flushInterval is how long an entry waits for others before it is written.
	flushInterval = 200 * time.Millisecond
	flushEntries  = 200
	// minMasked is the shortest secret that is masked, in bytes: a shorter one is
	// likely to occur by chance.
	minMasked = 4
)

// maxPending bounds the entries that wait for the store.
const maxPending = 4 * flushEntries

// buildLog is the log of a build. One goroutine writes entries to the store in batches, in
// order. It is safe for concurrent use.
//
// At most maxPending entries wait. If there are as many, an entry waits for the write under way;
// if the store fails, it is dropped, and a later entry tells their number.
type buildLog struct {
	id     BuildID
	append func(context.Context, BuildID, []LogEntry) error
	notify func()
	// secrets replaces the lines of secrets, of which the longest has longest bytes.
	secrets *strings.Replacer
	longest int

	mu      sync.Mutex // protects the following; nobody writes to the store under it
	entries []LogEntry
	dropped int  // entries since the last of entries
	failing bool // the last write failed
	closed  bool
	// taken is closed, and replaced, when entries have been written, or could not be.
	taken chan struct{}
	full  chan struct{}
	done  chan struct{}
}

// newBuildLog returns a log that hides the secrets.
func newBuildLog(id BuildID, write func(context.Context, BuildID, []LogEntry) error, notify func(), secrets map[string][]byte) *buildLog {
	l := &buildLog{
		id: id, append: write, notify: notify,
		taken: make(chan struct{}), full: make(chan struct{}, 1), done: make(chan struct{}),
	}
	l.hide(secrets)
	go l.run()
	return l
}

// hide sets the texts that are masked: each line of a secret, because output is logged by
// lines, which carriage returns end too.
func (l *buildLog) hide(secrets map[string][]byte) {
	var lines []string
	for _, value := range secrets {
		for line := range strings.FieldsFuncSeq(string(value), func(r rune) bool { return r == '\n' || r == '\r' }) {
			if line = strings.TrimSpace(line); len(line) >= minMasked {
				lines = append(lines, line)
				l.longest = max(l.longest, len(line))
			}
		}
	}
	// A secret that contains another one is masked first.
	slices.SortFunc(lines, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, line := range lines {
		pairs = append(pairs, line, "***")
	}
	l.secrets = strings.NewReplacer(pairs...)
}

// mask returns text without secrets.
func (l *buildLog) mask(text string) string { return l.secrets.Replace(text) }

// add adds an entry.
func (l *buildLog) add(level, step, format string, args ...any) {
	text := untrusted.Line(l.mask(fmt.Sprintf(format, args...)), MaxLogMessage)
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.entries) >= maxPending && !l.failing && !l.closed {
		taken := l.taken
		l.mu.Unlock()
		l.wake()
		<-taken
		l.mu.Lock()
	}
	switch {
	case l.closed:
		return
	case len(l.entries) >= maxPending:
		l.dropped++
		return
	}
	l.entries = append(l.entries, LogEntry{At: time.Now(), Level: level, Step: step, Message: text})
	if len(l.entries) >= flushEntries {
		l.wake()
	}
}

// wake makes run write now.
func (l *buildLog) wake() {
	select {
	case l.full <- struct{}{}:
	default:
	}
}

// output returns a writer of the lines of a command.
func (l *buildLog) output(level, step string) *lineWriter {
	return &lineWriter{log: l, level: level, step: step, keep: l.longest}
}

// run writes entries until close. Nothing else calls flush, so that their order is kept.
func (l *buildLog) run() {
	defer close(l.done)
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-l.full:
		}
		if l.flush() {
			return
		}
	}
}

// flush writes the entries, and reports whether the log was closed before. Entries that could not
// be written are tried again, as far as there is room, unless the log is closed.
func (l *buildLog) flush() bool {
	l.mu.Lock()
	entries, dropped, closed, taken := l.entries, l.dropped, l.closed, l.taken
	l.entries, l.dropped, l.taken = nil, 0, make(chan struct{})
	l.mu.Unlock()
	defer close(taken)
	err := l.write(entries, dropped)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failing = err != nil
	if err != nil && !closed {
		l.entries, l.dropped = append(entries, l.entries...), l.dropped+dropped
		if extra := len(l.entries) - maxPending; extra > 0 {
			l.entries, l.dropped = l.entries[:maxPending], l.dropped+extra
		}
	}
	return closed
}

// write writes entries, and one that tells how many were dropped after them.
func (l *buildLog) write(entries []LogEntry, dropped int) error {
	if dropped > 0 {
		entries = append(slices.Clip(entries), LogEntry{
			At: time.Now(), Level: "warn", Message: fmt.Sprintf("%d lines of the log are left out, because they could not be stored in time", dropped),
		})
	}
	if len(entries) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := fault.Caught(func() error { return l.append(ctx, l.id, entries) }); err != nil {
		return err
	}
	_ = fault.Caught(func() error { l.notify(); return nil })
	return nil
}

// sync waits until the entries so far have been written, or could not be. A write takes at most
// ten seconds.
func (l *buildLog) sync() {
	l.mu.Lock()
	taken, closed := l.taken, l.closed
	l.mu.Unlock()
	if !closed {
		l.wake()
		<-taken
	}
}

// close writes the rest.
func (l *buildLog) close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	l.mu.Unlock()
	l.wake()
	<-l.done
}

// lastLines is how many lines of a failed command its reason has.
const lastLines = 20

// lineWriter cuts output into lines, each an entry. It is not safe for concurrent use.
type lineWriter struct {
	log         *buildLog
	level, step string
	keep        int // bytes that a secret can have, which are not cut off early
	buf         []byte
	last        []string
}

// Write implements io.Writer.
func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexAny(p, "\n\r")
		if i < 0 {
			w.buf = append(w.buf, p...)
			w.cut()
			return n, nil
		}
		w.buf = append(w.buf, p[:i]...)
		w.cut()
		w.flush()
		p = p[i+1:]
	}
	return n, nil
}

// cut emits the begin of a line that is too long for one entry. It never cuts within a
// secret: the kept rest begins with the bytes in which one may have begun.
func (w *lineWriter) cut() {
	for len(w.buf) > MaxLogMessage+2*w.keep {
		masked := []byte(w.log.mask(string(w.buf)))
		if len(masked) <= MaxLogMessage+w.keep {
			w.buf = masked
			return
		}
		w.emit(string(masked[:MaxLogMessage]))
		w.buf = append(w.buf[:0], masked[MaxLogMessage:]...)
	}
}

// flush emits the current line.
func (w *lineWriter) flush() {
	if len(w.buf) > 0 {
		w.emit(string(w.buf))
	}
	w.buf = w.buf[:0]
}

func (w *lineWriter) emit(line string) {
	line = untrusted.Line(w.log.mask(line), MaxLogMessage)
	w.log.add(w.level, w.step, "%s", line)
	if strings.TrimSpace(line) == "" {
		return
	}
	if w.last = append(w.last, line); len(w.last) > lastLines {
		w.last = w.last[1:]
	}
}
