package filesystem

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// inotifyEvent is one struct inotify_event of inotify(7).
type inotifyEvent struct {
	wd   int32
	mask uint32
	// cookie is the same in both events of a rename.
	cookie uint32
	name   string
}

// parseInotify decodes the result of one read from an inotify descriptor.
func parseInotify(b []byte) []inotifyEvent {
	var events []inotifyEvent
	for len(b) >= unix.SizeofInotifyEvent {
		size := int(binary.NativeEndian.Uint32(b[12:]))
		if len(b) < unix.SizeofInotifyEvent+size {
			break
		}
		name := b[unix.SizeofInotifyEvent : unix.SizeofInotifyEvent+size]
		events = append(events, inotifyEvent{
			wd:     int32(binary.NativeEndian.Uint32(b)),
			mask:   binary.NativeEndian.Uint32(b[4:]),
			cookie: binary.NativeEndian.Uint32(b[8:]),
			name:   string(bytes.TrimRight(name, "\x00")),
		})
		b = b[unix.SizeofInotifyEvent+size:]
	}
	return events
}

// typesOf returns the event types in mask, in the order of EventType.
func typesOf(mask uint32) []EventType {
	var types []EventType
	for _, t := range []struct {
		bits uint32
		is   EventType
	}{
		{unix.IN_CREATE | unix.IN_MOVED_TO, Created},
		{unix.IN_MOVED_FROM | unix.IN_MOVE_SELF, Renamed},
		{unix.IN_ATTRIB, Chmodded},
		{unix.IN_MODIFY, Written},
		{unix.IN_DELETE | unix.IN_DELETE_SELF, Removed},
	} {
		if mask&t.bits != 0 {
			types = append(types, t.is)
		}
	}
	return types
}
