package filesystem

import (
	"path"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// maxPath is PATH_MAX of Linux without the final NUL.
const maxPath = 4095

// Bases are the directories that relative paths start from.
type Bases struct {
	// Home is the acting user's home directory.
	Home string
	// Default is the meaning of the empty path; if it is empty, Home is.
	Default string
}

// ResolveFile is Resolve for a path that must name a file: one that ends in
// "/", "/." or "/.." names a directory and is Invalid.
func ResolveFile(p string, bases Bases) (string, error) {
	if last := p[strings.LastIndexByte(p, '/')+1:]; p != "" && (last == "" || last == "." || last == "..") {
		return "", fault.New(fault.Invalid, "invalid_path", "path '%s' names a directory: add the name of the file", p)
	}
	return Resolve(p, bases)
}

// Resolve returns p as a clean absolute path. The empty path is the default
// directory; "~" and "~/x" are in the user's home; an absolute path is itself;
// a relative one starts at the user's home, not at the default directory.
// "~other" is Invalid, as are NUL and paths longer than the kernel takes.
func Resolve(p string, bases Bases) (string, error) {
	home := path.Clean("/" + bases.Home)
	switch {
	case p == "" && bases.Default != "":
		p = path.Clean("/" + bases.Default)
	case p == "" || p == "~":
		p = home
	case strings.HasPrefix(p, "~/"):
		p = path.Join(home, p[2:])
	case p[0] == '~':
		return "", fault.New(fault.Invalid, "invalid_path", "path must not name another user's home: write it out")
	case p[0] == '/':
		p = path.Clean(p)
	default:
		p = path.Join(home, p)
	}
	if strings.ContainsRune(p, 0) {
		return "", fault.New(fault.Invalid, "invalid_path", "path must not hold NUL")
	}
	if len(p) > maxPath {
		return "", fault.New(fault.Invalid, "invalid_path", "path may have at most %d bytes", maxPath)
	}
	return p, nil
}
