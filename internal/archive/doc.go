// Package archive writes and reads directories as streams of tar.
//
// The guest's agent and the command line use it, each for both directions. It owns
// nothing: the caller opens the directory as an os.Root, and nothing outside of that
// is read or written, no matter which links the archive holds or a program puts in the way
// meanwhile.
//
// Both sides distrust the other. Names and depths are bounded, entries and bytes are
// counted against limits before they are written, devices are never made, owners come
// from the caller, and an archive without its end is an error.
package archive

import (
	"errors"
	"math"
	"path"
	"path/filepath"
	"strings"
)

// Bounds of every archive.
const (
	// MaxEntries is the largest number of entries.
	MaxEntries = 1_000_000
	// MaxBytes is the largest size of all files together, in bytes. The holes of a
	// sparse file count.
	MaxBytes = 64 << 30
	// MaxDepth is the largest number of parts of a name.
	MaxDepth = 256

	// maxDirNames bounds the names of directories that Unpack keeps, in bytes.
	maxDirNames = 128 << 20

	maxName = 4095 // PATH_MAX of Linux without the final NUL
	maxPart = 255  // NAME_MAX of Linux
)

// Errors of this package wrap one of these. Others are of the file system, or of the
// stream.
var (
	// ErrInvalid means that the archive holds something that is refused.
	ErrInvalid = errors.New("invalid archive")
	// ErrIncomplete means that the archive ends before its end marker.
	ErrIncomplete = errors.New("the archive is incomplete")
	// ErrTooLarge means that a limit is exceeded.
	ErrTooLarge = errors.New("the archive is too large")
)

// Totals count the contents of an archive.
type Totals struct {
	Entries int
	// Bytes is the size of all files.
	Bytes int64
}

// add counts one entry of size bytes, unless that exceeds the limits.
func (t *Totals) add(size int64, l limits) error {
	switch {
	case size < 0:
		return ErrInvalid
	case t.Entries >= l.entries || size > l.bytes-t.Bytes:
		return ErrTooLarge
	}
	t.Entries, t.Bytes = t.Entries+1, t.Bytes+size
	return nil
}

// limits bound one archive.
type limits struct {
	bytes   int64 // the size of all files
	entries int
	names   int // the size of the names of directories, in bytes
}

// or returns l with the bounds of every archive for those that are 0; bytes is the
// limit of the caller, or 0.
func (l limits) or(bytes int64) limits {
	if l.bytes = bytes; bytes <= 0 || bytes == math.MaxInt64 {
		l.bytes = MaxBytes
	}
	if l.entries == 0 {
		l.entries = MaxEntries
	}
	if l.names == 0 {
		l.names = maxDirNames
	}
	return l
}

// local returns the name of an entry as a clean relative path; "." is the directory
// itself. It reports false for a name that leads outside of the directory or exceeds
// the bounds.
func local(name string) (string, bool) {
	if name == "" || len(name) > maxName || strings.ContainsRune(name, 0) {
		return "", false
	}
	name = path.Clean(name)
	if !filepath.IsLocal(name) {
		return "", false
	}
	parts := strings.Split(name, "/")
	for _, part := range parts {
		if len(part) > maxPart {
			return "", false
		}
	}
	return name, len(parts) <= MaxDepth
}
