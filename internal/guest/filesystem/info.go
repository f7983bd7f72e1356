package filesystem

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Kind is the type of a file.
type Kind uint8

// The kinds. The values are those of the enumeration in files.proto.
const (
	KindRegular Kind = iota + 1
	KindDirectory
	KindSymlink
	KindFIFO
	KindSocket
	KindDevice
)

// maxOwnerName bounds the name of an owner or a group in an Info, in bytes: programs
// of the guest write the account files.
const maxOwnerName = 64

// Info describes one file as it is, a link itself.
type Info struct {
	// Name is relative to the listed directory, and the last part of the path for a
	// single file.
	Name string
	Kind Kind
	Size int64
	// Mode is the mode without the type, as stat(2) has it: at most 07777.
	Mode         uint32
	Owner, Group string
	ModifiedAt   time.Time
	// Target is that of a link.
	Target string
}

// Info describes path: a link itself, or its target with follow.
func (f *Files) Info(path string, follow bool) (Info, error) {
	d, err := f.accounts.Read()
	if err != nil {
		return Info{}, err
	}
	stat := os.Lstat
	if follow {
		stat = os.Stat
	}
	fi, err := stat(path)
	if errors.Is(err, syscall.ENOTDIR) {
		return Info{}, errMissing(path, err)
	}
	if err != nil {
		return Info{}, classify(path, err)
	}
	return d.info(filepath.Base(path), path, fi), nil
}

// info describes the file at path as fi does.
func (d *Directory) info(name, path string, fi os.FileInfo) Info {
	out := Info{Name: name, Kind: kindOf(fi.Mode()), Size: fi.Size(), ModifiedAt: fi.ModTime()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		out.Mode = st.Mode & 0o7777
		out.Owner, out.Group = short(d.Owner(st.Uid)), short(d.Group(st.Gid))
	}
	if out.Kind == KindSymlink {
		out.Target, _ = os.Readlink(path)
	}
	return out
}

func short(name string) string { return name[:min(len(name), maxOwnerName)] }

func kindOf(m os.FileMode) Kind {
	switch {
	case m.IsRegular():
		return KindRegular
	case m.IsDir():
		return KindDirectory
	case m&os.ModeSymlink != 0:
		return KindSymlink
	case m&os.ModeNamedPipe != 0:
		return KindFIFO
	case m&os.ModeSocket != 0:
		return KindSocket
	default:
		return KindDevice
	}
}
