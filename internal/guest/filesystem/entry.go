package filesystem

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Type is the type of a file system entry, as the protocol distinguishes them.
type Type uint8

// The types. Pipes, sockets, devices and broken links are Unspecified.
const (
	Unspecified Type = iota
	File
	Dir
)

// Entry describes one path.
type Entry struct {
	Name string
	// Type and Mode are those of the target when the path is a link.
	Type Type
	Path string
	Size int64
	// Mode is permission bits alone.
	Mode uint32
	// Permissions has the form of ls and describes a link itself: "Lrwxrwxrwx".
	Permissions  string
	Owner, Group string
	ModifiedAt   time.Time
	// Target is the target of a link; nil when the path is no link.
	Target *string
	// Metadata was attached on upload. Nil when there is none.
	Metadata map[string]string
}

// Files reads, lists, writes, moves, removes and watches files. It keeps no state
// between calls except its watches. Its methods may be used from several
// goroutines.
type Files struct {
	accounts *Accounts
	large    large
}

// NewFiles returns Files that look up the names of owners in accounts. With direct the
// content of large files passes over the page cache, where the file system can do that.
func NewFiles(accounts *Accounts, direct bool) *Files {
	if accounts == nil {
		panic("filesystem: nil Accounts")
	}
	return &Files{accounts: accounts, large: large{slots: make(chan struct{}, maxDirect), bypass: direct}}
}

// Stat describes path, without following it if it is a link.
func (f *Files) Stat(path string) (Entry, error) {
	d, err := f.accounts.Read()
	if err != nil {
		return Entry{}, err
	}
	return d.stat(path)
}

func (d *Directory) stat(path string) (Entry, error) {
	fi, err := os.Lstat(path)
	if errors.Is(err, syscall.ENOTDIR) {
		return Entry{}, errMissing(path, err)
	}
	if err != nil {
		return Entry{}, classify(path, err)
	}
	e := Entry{
		Name:        filepath.Base(path),
		Type:        typeOf(fi.Mode()),
		Path:        path,
		Size:        fi.Size(),
		Mode:        uint32(fi.Mode().Perm()),
		Permissions: fi.Mode().String(),
		ModifiedAt:  fi.ModTime(),
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		e.Owner, e.Group = d.Owner(st.Uid), d.Group(st.Gid)
	}
	if fi.Mode()&os.ModeSymlink != 0 {
		e.follow()
	} else if fi.Mode().IsRegular() {
		e.Metadata = readMetadata(path)
	}
	return e, nil
}

// follow fills in the type, mode and size of a link from its target.
func (e *Entry) follow() {
	e.Type, e.Mode = Unspecified, 0
	target, err := filepath.EvalSymlinks(e.Path)
	if err != nil {
		target, _ = os.Readlink(e.Path)
	} else if fi, err := os.Stat(target); err == nil {
		e.Type, e.Mode = typeOf(fi.Mode()), uint32(fi.Mode().Perm())
	}
	e.Target = &target
}

func typeOf(m os.FileMode) Type {
	switch {
	case m.IsRegular():
		return File
	case m.IsDir():
		return Dir
	default:
		return Unspecified
	}
}
