package gvisor

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/tsc"
	"github.com/wrenn-dev/wrenn/internal/linux/filesum"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Name is the driver's name in records and in the API.
const Name = "gvisor"

// Systrap is the way in which guest instructions run: natively, in processes whose
// system calls are trapped.
const Systrap vmm.Acceleration = "systrap"

// Options choose how the driver runs gVisor. All are fixed for its life.
type Options struct {
	// Runtimes is the directory with the builds of runsc. Agents may share one.
	Runtimes string
	// Agent is the path of an EROFS image with the program wrenn-guest in its root.
	Agent string
	// Reason says in a sentence why gVisor was chosen.
	Reason string
	// MaxVCPUs is the most virtual CPUs that a sandbox may have.
	MaxVCPUs int
	Log      *slog.Logger
}

// Driver runs sandboxes with gVisor. It is safe for use by several goroutines.
type Driver struct {
	runtimes    *runtimes
	current     Runtime // new sandboxes are started under it
	agent       string
	agentDigest string
	features    string
	info        vmm.Info
	log         *slog.Logger
}

var _ vmm.Driver = (*Driver)(nil)

// New finds the newest build of runsc. It fails with kind Unsupported, reason
// "vmm_missing", where there is none.
func New(o Options) (*Driver, error) {
	if os.Geteuid() != 0 {
		return nil, fault.New(fault.Unsupported, "not_root", "gVisor sandboxes with user ids of their own can only be started by root")
	}
	d := &Driver{
		runtimes: &runtimes{dir: o.Runtimes, verified: make(map[string]bool)},
		agent:    o.Agent, features: tsc.Features(), log: o.Log,
	}
	var err error
	if d.current, err = d.runtimes.find(""); err != nil {
		return nil, err
	}
	if d.agentDigest, _, err = filesum.SHA256(o.Agent); err != nil {
		return nil, fmt.Errorf("read the image of the guest agent: %w", err)
	}
	d.info = vmm.Info{
		Driver: Name, Version: d.current.Version, Acceleration: Systrap, Reason: o.Reason,
		Runtime: sandbox.RuntimeGVisor, Isolation: sandbox.IsolationUserspaceKernel, MultiTenant: true, MaxVCPUs: o.MaxVCPUs, GuestKernel: guestKernel,
		Shape: vmm.Shape{
			RestoresRunning: true, DiskInSnapshot: true, DiskInMemory: true, Attachment: vmm.AttachNamespace,
			OverheadMB: overheadMB, OverheadCPUs: overheadCPUs,
		},
	}
	return d, nil
}

// The most memory, in MiB, and the CPU share that a sentry and its stubs need beside
// the memory and the CPUs of the guest.
const (
	overheadMB   = 128
	overheadCPUs = 0.5
)

// guestKernel is the release that the sentry shows to guests.
const guestKernel = "4.19.0-gvisor"

// BootInputs implements vmm.Driver.
func (d *Driver) BootInputs() map[string]string { return map[string]string{"agent": d.agentDigest} }

// Info implements vmm.Driver.
func (d *Driver) Info() vmm.Info { return d.info }

// Fingerprint names the facts that a saved sandbox depends on: the build of runsc,
// whose state files have no other version, and the processor's features, because
// programs have looked at them.
func (d *Driver) Fingerprint(cfg vmm.Config) map[string]string {
	runtime := d.current
	if cfg.Build != "" && cfg.Build != runtime.ID {
		// A build that has gone leaves the entries of the current one, and the
		// comparison then names the difference.
		if kept, err := d.runtimes.find(cfg.Build); err == nil {
			runtime = kept
		}
	}
	fp := map[string]string{
		"driver":                Name,
		"acceleration":          string(Systrap),
		"cpu":                   "host",
		"devices":               "agent " + d.agentDigest[:16],
		"vcpus":                 fmt.Sprint(cfg.VCPUs),
		"memory_mb":             fmt.Sprint(cfg.MemoryMB),
		vmm.FingerprintFeatures: d.features,
	}
	maps.Copy(fp, runtimeFingerprint(runtime))
	return fp
}

func runtimeFingerprint(r Runtime) map[string]string {
	return map[string]string{vmm.FingerprintVersion: r.Version, vmm.FingerprintBinary: r.Digest}
}

// sealOf returns the seal of snapshots of cfg under a build, without files.
func (d *Driver) sealOf(cfg vmm.Config, r Runtime) seal {
	return seal{
		Runtime: r.Digest, Agent: d.agentDigest, RootImage: cfg.RootImage, MemoryMB: cfg.MemoryMB, DiskMB: cfg.DiskMB,
	}
}

// BuildOf implements vmm.Driver.
func (d *Driver) BuildOf(saved map[string]string) (string, error) {
	found, err := d.runtimes.list()
	if err != nil {
		return "", err
	}
	for _, r := range found {
		if vmm.SameBuild(saved, runtimeFingerprint(r)) {
			return r.ID, nil
		}
	}
	return "", fault.New(fault.WrongState, "vmm_build_missing",
		"it was saved under runsc %s (program %s), which this host has not kept; new sandboxes run under runsc %s (program %s). "+
			"Build that version again and restart the host agent, or delete the snapshots that were saved under it",
		saved[vmm.FingerprintVersion], saved[vmm.FingerprintBinary], d.current.Version, d.current.Digest)
}

// Builds implements vmm.Driver.
func (d *Driver) Builds() ([]vmm.Build, error) {
	found, err := d.runtimes.list()
	if err != nil {
		return nil, err
	}
	builds := make([]vmm.Build, len(found))
	for i, r := range found {
		st, err := os.Stat(r.Program())
		if err != nil {
			return nil, err
		}
		builds[i] = vmm.Build{ID: r.ID, Version: r.Version, Bytes: st.Size(), Dir: r.dir, Current: r.ID == d.current.ID}
	}
	return builds, nil
}

// RemoveBuild implements vmm.Driver.
func (d *Driver) RemoveBuild(_ context.Context, id string) error {
	if id == d.current.ID {
		return fault.New(fault.Internal, "internal", "the current build cannot be removed")
	}
	return d.runtimes.remove(id)
}
