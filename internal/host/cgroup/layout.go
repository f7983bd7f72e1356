package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Kind says what control groups this host has.
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

// extras are v1 controllers that are used where they are, and not missed where
// they are not.
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
	l, err := detect("/proc/self/mountinfo")
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

// detect reads the mounts from a file in the format of proc(5) mountinfo.
func detect(mountinfo string) (layout, error) {
	text, err := os.ReadFile(mountinfo)
	if err != nil {
		return layout{}, err
	}
	l := parse(string(text))
	if l.unified != "" {
		l.unifiedHas = listed(filepath.Join(l.unified, "cgroup.controllers"))
	}
	return l, nil
}

// parse finds the writable mounts of whole hierarchies. Fields are: id,
// parent, device, root, mount point, options, optional fields up to "-", type,
// source, options of the file system (for v1 its controllers).
func parse(mountinfo string) layout {
	l := layout{v1: map[string]string{}, extraV1: map[string]string{}}
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		fields, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 6 || len(tail) < 3 || slices.Contains(strings.Split(fields[5], ","), "ro") {
			continue
		}
		switch tail[0] {
		case "cgroup2":
			if l.unified == "" {
				l.unified = fields[4]
			}
		case "cgroup":
			for _, c := range strings.Split(tail[2], ",") {
				if slices.Contains(controllers, c) && l.v1[c] == "" {
					l.v1[c] = fields[4]
				}
				if slices.Contains(extras, c) && l.extraV1[c] == "" {
					l.extraV1[c] = fields[4]
				}
			}
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
