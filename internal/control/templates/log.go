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

// buildLog is the log of a build. It writes entries to the store in batches, from one
// goroutine, in order. It is safe for concurrent use.
type buildLog struct {
	id     BuildID
	append func(context.Context, BuildID, []LogEntry) error
	notify func()
	masked [][]byte

	mu      sync.Mutex
	entries []LogEntry
	closed  bool
	full    chan struct{}
	done    chan struct{}
}

// newBuildLog returns a log that hides the secrets.
func newBuildLog(id BuildID, write func(context.Context, BuildID, []LogEntry) error, notify func(), secrets map[string][]byte) *buildLog {
	l := &buildLog{id: id, append: write, notify: notify, full: make(chan struct{}, 1), done: make(chan struct{})}
	for _, value := range secrets {
		for line := range bytes.Lines(value) {
			if line = bytes.TrimSpace(line); len(line) >= minMasked {
				l.masked = append(l.masked, line)
			}
		}
	}
	// A secret that contains another one is masked first.
	slices.SortFunc(l.masked, func(a, b []byte) int { return len(b) - len(a) })
	go l.run()
	return l
}

// mask returns text without secrets.
func (l *buildLog) mask(text string) string {
	for _, secret := range l.masked {
		text = strings.ReplaceAll(text, string(secret), "***")
	}
	return text
}

// add adds an entry.
func (l *buildLog) add(level, step, format string, args ...any) {
	text := untrusted.Line(l.mask(fmt.Sprintf(format, args...)), MaxLogMessage)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.entries = append(l.entries, LogEntry{At: time.Now(), Level: level, Step: step, Message: text})
	if len(l.entries) >= flushEntries {
		select {
		case l.full <- struct{}{}:
		default:
		}
	}
}

// maxPending bounds the entries that wait for the store; more wait for room.
const maxPending = 4 * flushEntries

// output returns a writer of the lines of a command.
func (l *buildLog) output(level, step string) *lineWriter {
	longest := 0
	for _, s := range l.masked {
		longest = max(longest, len(s))
	}
	return &lineWriter{log: l, level: level, step: step, keep: longest}
}

// run writes entries until close.
func (l *buildLog) run() {
	defer close(l.done)
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-l.full:
		}
		var last bool
		_ = fault.Caught(func() error { last = l.flush(); return nil })
		if last {
			return
		}
	}
}

// flush writes the entries, and reports whether the log was closed before.
func (l *buildLog) flush() bool {
	l.mu.Lock()
	entries, closed := l.entries, l.closed
	l.entries = nil
	l.mu.Unlock()
	if len(entries) == 0 {
		return closed
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := l.append(ctx, l.id, entries); err != nil && !closed {
		l.mu.Lock()
		if len(l.entries)+len(entries) <= maxPending { // otherwise they are lost
			l.entries = append(entries, l.entries...)
		}
		l.mu.Unlock()
		return false
	}
	l.notify()
	return closed
}

// sync writes the entries so far.
func (l *buildLog) sync() { l.flush() }

// close writes the rest.
func (l *buildLog) close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	l.mu.Unlock()
	select {
	case l.full <- struct{}{}:
	default:
	}
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
