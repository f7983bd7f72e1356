package control

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// FileType is the type of a file in the words of the API.
type FileType string

// The types of files.
const (
	FileRegular   FileType = "file"
	FileDirectory FileType = "directory"
	FileSymlink   FileType = "symlink"
	FileFIFO      FileType = "fifo"
	FileSocket    FileType = "socket"
	FileDevice    FileType = "device"
)

// FileEntry describes a file, and a link itself. The guest wrote all of it; names may
// hold any byte but NUL.
type FileEntry struct {
	// Name is relative to the listed directory, and the last part of the path for a
	// single file.
	Name string
	Type FileType
	// Size is in bytes.
	Size int64
	// Mode is at most 07777.
	Mode         uint32
	Owner, Group string
	ModifiedAt   time.Time
	// Target is that of a link.
	Target string
}

// FileCall is one operation on the names of a sandbox's file system: FileList, FileStat,
// FileMakeDir, FileMove or FileRemove. Paths are absolute.
type FileCall interface{ paths() []string }

// FileList asks for a page of the entries below a directory, in the order of the bytes
// of their names, a directory before its children.
type FileList struct {
	Path string
	// Depth is the number of levels, 1 or more.
	Depth int
	// Limit is the largest number of entries; 0 is the guest's limit. A page may be
	// shorter.
	Limit int
	// After is the Name of the last entry of the previous page; empty is the begin.
	After string
}

// FileStat asks for one file, or with Follow for the target of a link.
type FileStat struct {
	Path   string
	Follow bool
}

// FileMakeDir makes a directory. With Parents it makes missing parents, and accepts a
// directory that exists.
type FileMakeDir struct {
	Path    string
	Parents bool
	// Mode is permission bits; nil is 0755.
	Mode *uint32
	// User owns the new directories; empty is the guest's default user.
	User string
}

// FileMove renames a file or a directory. With Overwrite it replaces a file or an empty
// directory at To.
type FileMove struct {
	From, To  string
	Overwrite bool
	// User owns the parents of To that are made; empty is the guest's default user.
	User string
}

// FileRemove removes a file, an empty directory, or with Recursive a directory with
// everything in it.
type FileRemove struct {
	Path      string
	Recursive bool
}

func (c FileList) paths() []string    { return []string{c.Path} }
func (c FileStat) paths() []string    { return []string{c.Path} }
func (c FileMakeDir) paths() []string { return []string{c.Path} }
func (c FileMove) paths() []string    { return []string{c.From, c.To} }
func (c FileRemove) paths() []string  { return []string{c.Path} }

// FilePage is the answer to a FileCall: a page for FileList, no entry for FileRemove,
// and one entry otherwise.
type FilePage struct {
	Entries []FileEntry
	// More says that entries follow after the last one.
	More bool
}

// FileWatch selects a directory whose changes are reported.
type FileWatch struct {
	Path      string
	Recursive bool
}

// FileEventType is the type of a change in the words of the API.
type FileEventType string

// The types of events. FileWatchReady comes first: later changes are reported.
// FileWatchOverflow means that changes were lost. FileRenamed is of a file that was moved
// away; one that was moved here is FileCreated.
const (
	FileWatchReady    FileEventType = "ready"
	FileWatchOverflow FileEventType = "overflow"
	FileCreated       FileEventType = "created"
	FileWritten       FileEventType = "written"
	FileRemoved       FileEventType = "removed"
	FileRenamed       FileEventType = "renamed"
	FileAttributes    FileEventType = "attributes"
)

// FileEvent is one event of a watch.
type FileEvent struct {
	Type FileEventType
	// Name is relative to the watched directory; "." is itself.
	Name string
}

// FileTree works with the names in the file systems of running VMs.
type FileTree interface {
	CallFile(ctx context.Context, ref sandbox.Ref, call FileCall) (FilePage, error)
	// WatchFiles calls sink with the events of a watch until ctx, the watch or the
	// sandbox ends or sink fails. It never returns nil.
	WatchFiles(ctx context.Context, ref sandbox.Ref, w FileWatch, sink func(FileEvent) error) error
}

// WatchFiles implements Sandboxes.
func (g *guestWork) WatchFiles(ctx context.Context, id sandbox.ID, w FileWatch, sink func(FileEvent) error) error {
	if err := sandbox.ValidateGuestPath(w.Path); err != nil {
		return err
	}
	return g.inGuest(ctx, id, func(host Host, ref sandbox.Ref) error {
		return host.WatchFiles(ctx, ref, w, sink)
	})
}

// CallFile implements Sandboxes.
func (g *guestWork) CallFile(ctx context.Context, id sandbox.ID, call FileCall) (page FilePage, err error) {
	for _, p := range call.paths() {
		if err := sandbox.ValidateGuestPath(p); err != nil {
			return FilePage{}, err
		}
	}
	err = g.inGuest(ctx, id, func(host Host, ref sandbox.Ref) error {
		page, err = host.CallFile(ctx, ref, call)
		return err
	})
	return page, err
}
