package doctor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/emulator"
)

// checkBuilds looks for paused sandboxes and snapshots in the data directory
// data that need a build of QEMU that is not there any more, and names the
// effect of a past or coming upgrade.
func checkBuilds(data, qemu string) Check {
	c := Check{Name: "qemu builds", Status: OK}
	installed := ""
	if path, err := exec.LookPath(qemu); err == nil {
		installed, _ = emulator.BinaryDigest(path) // unreadable is like missing, which has a check of its own
	}
	stranded, err := host.FindStranded(data, installed)
	if err != nil {
		c.Status, c.Found, c.Detail = Warn, "cannot be told", err.Error()
		return c
	}
	kept, err := keptBuilds(data)
	if err != nil {
		c.Status, c.Found, c.Detail = Warn, "cannot be told", err.Error()
		return c
	}
	c.Found = fmt.Sprintf("%d kept", len(kept))
	isNew := !slices.ContainsFunc(kept, func(b emulator.Build) bool { return b.Digest == installed })
	switch {
	case len(stranded) > 0:
		c.Status = Warn
		c.Found += ", but another one is needed"
		c.Detail = describeStranded(stranded)
	case len(kept) > 0 && isNew:
		c.Detail = "the installed QEMU is another one: the next start of the agent keeps a copy and runs new sandboxes under it; " +
			"what was paused before keeps its own build"
	}
	return c
}

func keptBuilds(data string) ([]emulator.Build, error) {
	dir := filepath.Join(data, "vmm")
	if _, err := os.Stat(dir); err != nil {
		return nil, nil // no agent has run here yet
	}
	store, err := emulator.Open(dir)
	if err != nil {
		return nil, err
	}
	return store.Builds()
}

// describeStranded names the missing builds and the sandboxes that need them.
func describeStranded(stranded []host.Stranded) string {
	var lines []string
	for _, s := range stranded {
		var what []string
		if len(s.Sandboxes) > 0 {
			what = append(what, fmt.Sprintf("sandboxes %v", s.Sandboxes))
		}
		if len(s.Snapshots) > 0 {
			what = append(what, fmt.Sprintf("snapshots %v", s.Snapshots))
		}
		lines = append(lines, fmt.Sprintf("%s cannot start without QEMU %s (binary %s): install that build again and restart the agent, or delete them",
			strings.Join(what, " and "), s.Version, s.Binary))
	}
	return strings.Join(lines, "; ")
}
