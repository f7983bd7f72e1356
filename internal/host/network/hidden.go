package network

import (
	"os"
	"strings"
)

// Hidden lists the sandbox networks that agents have tried to remove but whose
// names are still in /run/netns, because the mount on each of them was hidden
// (see the package's doc). They hold addresses and memory, and nothing else.
// Names of namespaces that may be in use are not among them, nor are names that
// UnhideCommand could not hand to a shell as they are. It only reads.
func Hidden() ([]string, error) {
	names, err := sharedNames.list(func(string) bool { return true })
	if err != nil {
		return nil, unreadable(err)
	}
	var hidden []string
	for _, name := range names {
		if f, _, err := sharedNames.open(name); err == nil {
			_ = f.Close()
			continue
		}
		mark, _ := os.ReadFile(sharedNames.path(name)) // a stranger's file may be anything
		if !strings.HasPrefix(string(mark), markWord) || !idPattern.MatchString(name) {
			continue
		}
		if n, err := mountsAt(sharedNames.path(name)); err != nil || n > 0 {
			hidden = append(hidden, name)
		}
	}
	return hidden, nil
}

// UnhideCommand is a shell command that removes hidden names: it takes the
// mounts away in a mount namespace of its own, where unlink(2) then works.
func UnhideCommand(names []string) string {
	return "unshare -m sh -c 'cd /run; while umount -l netns; do :; done; for n in " + strings.Join(names, " ") +
		"; do while umount -l netns/$n; do :; done; rm -f netns/$n; done' 2>/dev/null"
}
