package process

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of the records of commands without an ID.
const (
	// MaxBriefs is the number of these records that a table keeps: the newest.
	MaxBriefs = 256
	// maxBriefBytes is the approximate memory in bytes that they may use together.
	maxBriefBytes = 128 << 10
	// maxBriefText bounds a text of a record in bytes, maxBriefArgs its arguments together,
	// and maxBriefCount the number of arguments.
	maxBriefText  = 256
	maxBriefArgs  = 512
	maxBriefCount = 64
	// briefOverhead is the memory in bytes of a record without its texts, and textOverhead
	// that of a text.
	briefOverhead = 256
	textOverhead  = 16
)

// Brief is the record of a command without an ID. The table keeps it longer than the
// command, and without the command's output.
type Brief struct {
	// Cmd, Args and User are those of the Spec, cut to a bound.
	Cmd  string
	Args []string
	// ArgsTruncated: Args lacks arguments at the end.
	ArgsTruncated bool
	User          string
	Started       time.Time
	// Ended is the zero time while the main process runs. Exit is valid once it has ended.
	Ended time.Time
	Exit  Exit
	// bytes is the approximate memory of the record.
	bytes int
}

// newBrief returns the record of the command of spec. It shares no memory with texts that
// it cuts.
func newBrief(spec *Spec, started time.Time) *Brief {
	b := &Brief{Cmd: Head(spec.Cmd, maxBriefText), User: Head(spec.Label.User, maxBriefText), Started: started}
	n, size := 0, 0
	for n < min(len(spec.Args), maxBriefCount) && size+len(spec.Args[n]) <= maxBriefArgs {
		size += len(spec.Args[n]) + 1
		n++
	}
	b.Args = slices.Clone(spec.Args[:n])
	b.bytes = briefOverhead + len(b.Cmd) + len(b.User) + size + n*textOverhead
	if n == len(spec.Args) {
		return b
	}
	b.ArgsTruncated = true
	if part := Head(spec.Args[n], max(maxBriefArgs-size, 0)); n < maxBriefCount && part != "" {
		b.Args = append(b.Args, part)
		b.bytes += len(part) + textOverhead
	}
	return b
}

// Head returns at most limit bytes of the start of text, and no part of a character.
func Head(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.Clone(strings.ToValidUTF8(text[:limit], ""))
}

// briefs are the records of the newest commands without an ID.
//
// Invariant: there are at most MaxBriefs, and bytes, the sum of theirs, is at most
// maxBriefBytes.
type briefs struct {
	mu    sync.Mutex // protects the following, and the records
	list  []*Brief   // oldest first
	bytes int
}

// add keeps b, and drops the oldest records that exceed a limit.
func (r *briefs) add(b *Brief) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, b)
	r.bytes += b.bytes
	drop := 0
	for len(r.list)-drop > MaxBriefs || r.bytes > maxBriefBytes {
		r.bytes -= r.list[drop].bytes
		drop++
	}
	r.list = slices.Delete(r.list, 0, drop)
}

// end completes the record of a command that has ended. It may have been dropped.
func (r *briefs) end(b *Brief, at time.Time, exit Exit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b.Ended, b.Exit = at, exit
}

// all returns copies of the records, the oldest first. The caller must not change Args.
func (r *briefs) all() []Brief {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Brief, len(r.list))
	for i, b := range r.list {
		out[i] = *b
	}
	return out
}

// dropEnded drops the records of ended commands.
func (r *briefs) dropEnded() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = slices.DeleteFunc(r.list, func(b *Brief) bool { return !b.Ended.IsZero() })
	r.bytes = 0
	for _, b := range r.list {
		r.bytes += b.bytes
	}
}

// Briefs returns the records of the newest commands without an ID, the oldest first. They
// include commands that run, and no command whose Spec is Unrecorded. The caller must not
// change Args.
func (t *Table) Briefs() []Brief { return t.briefs.all() }

// DropBriefs drops the records of ended commands without an ID, because the table belongs
// to another sandbox from now on. Commands that run stay recorded: they run there.
func (t *Table) DropBriefs() { t.briefs.dropEnded() }
