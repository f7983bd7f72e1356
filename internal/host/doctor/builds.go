package doctor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/emulator"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/gvisor"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/runsc"
)

// builds are the builds of both drivers' programs.
type builds struct {
	installed string           // digest of the installed QEMU, or empty
	qemu      []emulator.Build // kept ones
	runsc     []runsc.Build    // kept ones
}

// checkBuilds looks for paused sandboxes and snapshots in the data directory
// data that need a build of QEMU or runsc that is not there any more, and names the
// effect of a past or coming upgrade.
func checkBuilds(data, qemu string) Check {
	c := Check{Name: "kept builds", Status: OK}
	b, err := findBuilds(data, qemu)
	var stranded []host.Stranded
	if err == nil {
		stranded, err = host.FindStranded(data, b.has)
	}
	if err != nil {
		c.Status, c.Found, c.Detail = Warn, "cannot be told", err.Error()
		return c
	}
	c.Found = fmt.Sprintf("%d of QEMU, %d of runsc", len(b.qemu), len(b.runsc))
	isNew := !slices.ContainsFunc(b.qemu, func(k emulator.Build) bool { return k.Digest == b.installed })
	switch {
	case len(stranded) > 0:
		c.Status = Warn
		c.Found += ", but another one is needed"
		c.Detail = describeStranded(stranded)
	case len(b.qemu) > 0 && isNew:
		c.Detail = "the installed QEMU is another one: the next start of the agent keeps a copy and runs new sandboxes under it; " +
			"what was paused before keeps its own build"
	}
	return c
}

func findBuilds(data, qemu string) (builds, error) {
	var b builds
	if path, err := exec.LookPath(qemu); err == nil {
		b.installed, _ = emulator.BinaryDigest(path) // unreadable is like missing, which has a check of its own
	}
	store, err1 := emulator.Open(filepath.Join(data, "vmm"))
	if err1 == nil {
		b.qemu, err1 = store.Builds()
	}
	var err2 error
	b.runsc, err2 = runsc.Open(filepath.Join(data, "runsc")).Builds()
	err := errors.Join(err1, err2)
	if errors.Is(err, os.ErrNotExist) {
		err = nil // no agent has run here yet
	}
	return b, err
}

// has reports whether the build of a fingerprint is available. The installed QEMU
// counts, because the next agent keeps it.
func (b builds) has(saved map[string]string) bool {
	if saved["driver"] == gvisor.Name {
		return slices.ContainsFunc(b.runsc, func(k runsc.Build) bool {
			return vmm.SameBuild(saved, map[string]string{vmm.FingerprintBinary: k.Digest, vmm.FingerprintFirmware: k.Firmware()})
		})
	}
	return saved[vmm.FingerprintBinary] == b.installed || slices.ContainsFunc(b.qemu, func(k emulator.Build) bool {
		return vmm.SameBuild(saved, map[string]string{vmm.FingerprintBinary: k.Digest, vmm.FingerprintFirmware: k.Firmware})
	})
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
		program, way := "QEMU", "install that build again and restart the agent, or delete them"
		if s.Driver == gvisor.Name {
			program, way = "runsc", "its copy in the data directory is gone; restore it from a backup, or delete them"
		}
		lines = append(lines, fmt.Sprintf("%s cannot start without %s %s (binary %s): %s", strings.Join(what, " and "), program, s.Version, s.Binary, way))
	}
	return strings.Join(lines, "; ")
}
