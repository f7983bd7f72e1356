package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/gvisor"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/kvmprobe"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/preference"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/runsc"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// installedRunsc is the runsc that the agent would use for new sandboxes, or the
// reason why it has none.
type installedRunsc struct {
	program runsc.Installed
	// kept is set if the program is a kept copy, because no other is there.
	kept bool
	err  error
}

func findRunsc(ctx context.Context, cfg Config) installedRunsc {
	source := gvisor.Options{Program: cfg.Runsc, Built: cfg.BuiltRunsc}.Source()
	program, err := source.Find(ctx)
	if err == nil || cfg.Runsc != "" {
		return installedRunsc{program: program, err: err}.tried(ctx)
	}
	kept, keptErr := runsc.Open(filepath.Join(cfg.Data.Dir, "runsc")).Builds()
	if keptErr != nil || len(kept) == 0 {
		return installedRunsc{err: err}
	}
	source.Program = kept[0].Program()
	program, err = source.Find(ctx)
	return installedRunsc{program: program, kept: true, err: err}.tried(ctx)
}

// tried runs a sandbox, which takes root.
func (in installedRunsc) tried(ctx context.Context) installedRunsc {
	if in.err == nil && os.Geteuid() == 0 {
		in.err = in.program.Try(ctx)
	}
	return in
}

// checkGVisor looks at runsc, without which the host offers microVMs only. Before
// images, a runsc that has not been built is no failure either.
func checkGVisor(cfg Config, probe kvmprobe.Report, in installedRunsc) Check {
	c := Check{Name: "gvisor", Status: OK}
	choice := cfg.preference()
	if in.err == nil {
		c.Found = fmt.Sprintf("runsc %s (%.12s), %s", in.program.Version, in.program.Digest, origin(cfg, in))
		return c
	}
	c.Found = "runsc cannot be used"
	if fault.As(in.err).Reason == "vmm_missing" && cfg.Runsc == "" {
		c.Found = "runsc is not built"
	}
	c.Detail = fault.As(in.err).Public
	switch {
	case choice.Required() && (cfg.Runsc != "" || !cfg.BeforeImages):
		c.Status = Fail
	case choice.PrefersGVisor(probe):
		c.Status = Warn
		c.Detail += "; without it code runs in an emulated processor, some 10 to 20 times slower"
	default:
		return c // not missed
	}
	if cfg.Runsc == "" && fault.As(in.err).Reason != "vmm_unusable" {
		c.Fix = "make runsc"
		if cfg.DataDirFlag != "" {
			c.Fix += " WRENN_DATA_DIR=" + Quote(cfg.DataDirFlag)
		}
	}
	return c
}

// origin says where the program comes from.
func origin(cfg Config, in installedRunsc) string {
	switch {
	case in.kept:
		return "a kept copy, because none is installed"
	case cfg.Runsc == "":
		return "built by make runsc"
	case len(in.program.SidecarNames) > 0:
		return in.program.Path + " with its gvisor-bin"
	default:
		return in.program.Path + " without gvisor-bin"
	}
}

func (c Config) preference() preference.Preference {
	return preference.Preference{Runtime: c.Runtime, Runsc: c.Runsc}
}

// checkRuntime names the runtime of sandboxes that ask for none, with the reason and
// the isolation of each.
func checkRuntime(cfg Config, probe kvmprobe.Report, in installedRunsc, hypervisor Check) Check {
	c := Check{Name: "runtime", Status: OK}
	acceleration, _, err := kvmprobe.Choose(cfg.Acceleration, probe)
	if err != nil {
		c.Status, c.Found, c.Detail = Fail, "none", err.Error()
		return c
	}
	isolation := sandbox.IsolationProcess
	if acceleration == "kvm" {
		isolation = sandbox.IsolationHardware
	}
	micro := fmt.Sprintf("%s (%s, isolation %s)", sandbox.RuntimeMicroVM, acceleration, isolation)
	sentry := fmt.Sprintf("%s (%s, isolation %s)", sandbox.RuntimeGVisor, gvisor.Systrap, sandbox.IsolationUserspaceKernel)
	choice := cfg.preference()
	switch {
	case hypervisor.Status == Warn && hypervisor.missing:
		c.Found, c.Detail = sentry, "the only one here; see qemu above"
	case in.err != nil:
		c.Found, c.Detail = micro, "the only one here; see gvisor above"
	case choice.PrefersGVisor(probe):
		c.Found, c.Detail = sentry+"; also "+micro, choice.GVisorReason(probe)
	default:
		c.Found, c.Detail = micro+"; also "+sentry, "gvisor is "+choice.GVisorReason(probe)
	}
	return c
}

// orGVisor makes a missing QEMU a limit where the host can run without it: gVisor is
// there, and no setting asks for QEMU.
func orGVisor(hypervisor Check, cfg Config, in installedRunsc) Check {
	if hypervisor.missing && in.err == nil && cfg.QEMU == defaultQEMU && cfg.Acceleration == kvmprobe.Auto && cfg.Runtime != sandbox.RuntimeMicroVM {
		hypervisor.Status = Warn
		hypervisor.Detail = "sandboxes run under gVisor alone, and the runtime microvm is not offered"
	}
	return hypervisor
}
