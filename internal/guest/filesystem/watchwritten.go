package filesystem

import (
	"strings"

	"golang.org/x/sys/unix"
)

// Files.Write writes a temporary file and renames it. A watch hides the temporary file,
// and reports the rename as the creation of the file and the change of its owner, unless
// it existed, and as a write to it: these are the events of a program that writes the file
// in place.

// writtenFile is the rename of a temporary file, whose second event follows.
type writtenFile struct {
	cookie uint32 // 0 is none
	types  []EventType
}

func isTemporary(name string) bool {
	return strings.HasPrefix(name, temporaryNew) || strings.HasPrefix(name, temporaryAgain)
}

// hides reports whether raw concerns a temporary file, and notes a rename of it.
func (w *Watch) hides(raw inotifyEvent) bool {
	if !isTemporary(raw.name) {
		return false
	}
	if raw.mask&unix.IN_MOVED_FROM != 0 {
		w.written = writtenFile{cookie: raw.cookie, types: []EventType{Written}}
		if strings.HasPrefix(raw.name, temporaryNew) {
			w.written.types = []EventType{Created, Chmodded, Written}
		}
	}
	return true
}

// typesOf returns the event types that raw means.
func (w *Watch) typesOf(raw inotifyEvent) []EventType {
	if raw.mask&unix.IN_MOVED_TO != 0 && raw.cookie != 0 && raw.cookie == w.written.cookie {
		defer func() { w.written = writtenFile{} }()
		return w.written.types
	}
	return typesOf(raw.mask)
}
