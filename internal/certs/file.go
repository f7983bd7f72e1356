package certs

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"
)

// maxFile bounds a file of certificates or keys, in bytes.
const maxFile = 4 << 20

// stamp tells one content of a file from another without reading it.
type stamp struct {
	modified time.Time
	size     int64
	inode    any
}

// watched is a value that is read from files, and read again after one of them
// has changed. It is safe for concurrent use.
type watched[T any] struct {
	// Constant after open.
	paths []string
	parse func(contents [][]byte) (T, error)

	mu     sync.Mutex // protects the following
	stamps []stamp
	value  T
	// logged is the error that was logged last, "" after a success.
	logged string
}

// open returns the value that parse reads from the files.
func open[T any](parse func([][]byte) (T, error), paths ...string) (*watched[T], error) {
	w := &watched[T]{paths: paths, parse: parse}
	stamps, err := w.look()
	if err != nil {
		return nil, err
	}
	if w.value, err = w.read(); err != nil {
		return nil, err
	}
	w.stamps = stamps
	return w, nil
}

// get returns the newest valid value.
func (w *watched[T]) get() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	stamps, err := w.look()
	if err == nil && same(stamps, w.stamps) {
		w.logged = ""
		return w.value
	}
	if err != nil {
		w.log(err)
		return w.value
	}
	// The stamps are those from before the reading: a file that changes
	// meanwhile is read again by the next call.
	value, err := w.read()
	if err != nil {
		w.log(err)
		return w.value
	}
	w.value, w.stamps, w.logged = value, stamps, ""
	return value
}

// log reports once that changed files cannot be used. Because connections are
// frequent, an error is logged again only after it has changed. mu must be
// held.
func (w *watched[T]) log(err error) {
	if err.Error() == w.logged {
		return
	}
	w.logged = err.Error()
	slog.Error("the certificate files cannot be reloaded, the previous ones stay in use; correct the files", "files", w.paths, "error", err)
}

func (w *watched[T]) look() ([]stamp, error) {
	var out []stamp
	for _, path := range w.paths {
		st, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		out = append(out, stamp{st.ModTime(), st.Size(), inodeOf(st)})
	}
	return out, nil
}

func (w *watched[T]) read() (value T, err error) {
	var contents [][]byte
	for _, path := range w.paths {
		content, err := readFile(path)
		if err != nil {
			return value, err
		}
		contents = append(contents, content)
	}
	return w.parse(contents)
}

func readFile(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxFile {
		return nil, errors.New(path + " is not a file of certificates")
	}
	return os.ReadFile(path)
}

func same(a, b []stamp) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].modified.Equal(b[i].modified) || a[i].size != b[i].size || a[i].inode != b[i].inode {
			return false
		}
	}
	return true
}
