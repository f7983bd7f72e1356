package cli

import (
	"io/fs"
	"sync"
	"syscall"
)

var umaskMu sync.Mutex

// umask returns the permission bits that new files of this process do not get. It is
// safe for concurrent use. The kernel only tells the mask when it is replaced; files
// that are made meanwhile are private.
func umask() fs.FileMode {
	umaskMu.Lock()
	defer umaskMu.Unlock()
	mask := syscall.Umask(0o077)
	syscall.Umask(mask)
	return fs.FileMode(mask) & fs.ModePerm
}
