package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/linux/cgroupfs"
)

// Kind names the versions of control groups that this host has.
type Kind string

// The kinds.
const (
	V2     Kind = "v2"     // limits, tracking and killing through cgroup v2
	Hybrid Kind = "hybrid" // limits through v1, tracking and killing through v2
	V1     Kind = "v1"     // everything through v1
	None   Kind = "none"   // nothing: VMs have no limits but their own
)

// controllers are those that the package uses for limits.
var controllers = []string{"memory", "cpu", "pids"}

// extras are optional v1 controllers: groups use those that the host has.
var extras = []string{"devices", "blkio"}

// layout is where the hierarchies are mounted; a path is "" if there is none.
type layout struct {
	unified    string            // cgroup v2
	unifiedHas []string          // controllers of it that the package uses
	v1         map[string]string // controller to mount point
	extraV1    map[string]string // the same of extras
}

// Detect returns the kind that this host's mounts suggest, without trying
// whether groups can be made.
func Detect() Kind {
	l, err := detect()
	if err != nil {
		return None
	}
	return l.kind()
}

func (l layout) kind() Kind {
	switch {
	case l.unified != "" && slices.Contains(l.unifiedHas, "memory"):
		return V2
	case l.unified != "" && len(l.v1) > 0:
		return Hybrid
	case l.unified != "":
		return V2
	case len(l.v1) > 0:
		return V1
	default:
		return None
	}
}

// detect finds the mounted hierarchies and the controllers that the package uses.
func detect() (layout, error) {
	mounts, err := cgroupfs.Find()
	if err != nil {
		return layout{}, err
	}
	l := layoutOf(mounts)
	if l.unified != "" {
		l.unifiedHas = listed(filepath.Join(l.unified, "cgroup.controllers"))
	}
	return l, nil
}

// layoutOf selects the hierarchies whose controllers the package uses.
func layoutOf(mounts cgroupfs.Mounts) layout {
	l := layout{unified: mounts.Unified, v1: map[string]string{}, extraV1: map[string]string{}}
	for controller, dir := range mounts.V1 {
		switch {
		case slices.Contains(controllers, controller):
			l.v1[controller] = dir
		case slices.Contains(extras, controller):
			l.extraV1[controller] = dir
		}
	}
	return l
}

// listed returns those of the package's controllers that a file lists.
func listed(path string) []string {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var found []string
	for _, c := range strings.Fields(string(text)) {
		if slices.Contains(controllers, c) {
			found = append(found, c)
		}
	}
	return found
}
